"""The spec file: which table to partition by which key, and how (TOML)."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?\s*")
_DURATION_TAKES = 'a duration such as "7 days", "12 hours" or "0 seconds"'
_NAME = r"[^.\x00]{1,63}"


class SpecError(Exception):
    """The spec file is not valid; the message names each key, what it got and what it takes."""


def parse_duration(text: object) -> timedelta:
    """Read `7 days`, `12 hours`, `90 seconds`. Raises ValueError for anything else."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"takes {_DURATION_TAKES}")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def parse_retention(text: object) -> int:
    """Read `24 months` or `2 years` as a number of months. Raises ValueError for anything else."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = re.fullmatch(r"\s*(\d+)\s*(month|year)s?\s*", text) if isinstance(text, str) else None
    if match is None or not int(match[1]):
        raise ValueError('takes a number of whole months, such as "24 months" or "2 years"')
    return int(match[1]) * (12 if match[2] == "year" else 1)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Months = Annotated[int, BeforeValidator(parse_retention)]


class Spec(BaseModel):
    """A table to be partitioned. Names are as in the catalogue, without quotes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    table: Annotated[str, Field(pattern=rf"^{_NAME}\.{_NAME}$")]
    """Schema and name, with a dot between."""
    key: Annotated[str, Field(min_length=1, max_length=63)]
    """The column whose month decides the partition."""
    interval: Literal["month"]
    ahead: Annotated[int, Field(ge=1, le=120)] = 3
    """Months after the current one that get a partition."""
    default_partition: bool = False
    """Whether rows outside all months go to a default partition, instead of being errors."""
    retention: Months | None = None
    """Months to keep besides the current one; `maintain` detaches what is older, after retire."""
    expired: Literal["archive", "drop"] = "archive"
    """What becomes of a partition older than that: a table of its own, or nothing."""
    archive_schema: Annotated[str, Field(pattern=rf"^{_NAME}$")] | None = None
    """Where archived tables go; None leaves them where they are, with `_archived` to the name."""
    widen: list[str] = Field(default_factory=list[str])
    """Unique constraints and indexes that get the key added; those not named are refused."""
    hold: Duration = timedelta(0)
    """How long after cutover the old table is kept at least."""

    @property
    def schema_name(self) -> str:
        return self.table.split(".")[0]

    @property
    def table_name(self) -> str:
        return self.table.split(".")[1]


def load_spec(path: Path) -> Spec:
    """Read and check a spec file. Raises SpecError naming every key that is wrong or unknown."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read the spec {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not TOML: {error}") from error
    try:
        return Spec.model_validate(values)
    except ValidationError as error:
        raise SpecError("\n".join(_explained(path, error))) from error


def _explained(path: Path, error: ValidationError) -> list[str]:
    known = ", ".join(Spec.model_fields)
    lines: list[str] = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key `{key}`; known are {known}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: `{key}` is missing")
        else:
            takes = problem["msg"].removeprefix("Value error, ")
            if key == "table":
                takes = 'takes schema and name, such as "public.review_logs"'
            lines.append(f"{path}: `{key}` is {problem['input']!r}: {takes}")
    return lines
