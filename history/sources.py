"""Where a history comes from."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_FIRST_END = date(1990, 1, 1)


class HistoryError(Exception):
    """The history cannot be loaded; the message says why and what to do. Nothing was changed."""


class Simulated(BaseModel):
    """Simulated learners: the same values and the same end give the same rows, ids included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["simulated"] = "simulated"
    actors: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    reviews: Annotated[int, Field(ge=1, le=1_000_000_000)] = 200_000
    months: Annotated[int, Field(ge=1, le=240)] = 18
    seed: Annotated[int, Field(ge=0)] = 1
    end: Annotated[date, Field(ge=_FIRST_END)] | None = None
    """The first day (UTC) without reviews; None is today: the history ends this midnight."""

    @field_validator("end")
    @classmethod
    def _has_come(cls, end: date | None) -> date | None:
        if end is not None and end > datetime.now(UTC).date():
            raise ValueError("takes a date that has come: reviews are not made in the future")
        return end

    @model_validator(mode="after")
    def _every_actor_reviews(self) -> Self:
        if self.reviews < self.actors:
            raise ValueError(
                f"reviews: takes at least as many as there are actors ({self.actors}), for every "
                f"actor has at least one; got {self.reviews}"
            )
        return self


class Anki(BaseModel):
    """The reviews of one person: an Anki collection, or its table `revlog` as CSV."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["anki"] = "anki"
    path: Path


Source = Annotated[Simulated | Anki, Field(discriminator="source")]


def explained(detail: dict[str, Any]) -> str:
    """Say in one line what pydantic found: the field, what it takes, what it got."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    message = message.replace("Input should be", "takes")
    message = message.replace("greater than or equal to", "at least")
    message = message.replace("less than or equal to", "at most")
    if detail["type"] == "missing":
        return f"{detail['loc'][0]}: missing"
    return f"{detail['loc'][0]}: {message}; got {_shown(detail['input'])}"


def _shown(value: object) -> str:
    shown = str(value) if isinstance(value, date) else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
