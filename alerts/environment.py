"""Reads settings from environment variables, and explains them."""

from __future__ import annotations

import os
from typing import TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings


class SettingsError(ValueError):
    """An environment variable is missing or wrong; the message names it."""


AnySettings = TypeVar("AnySettings", bound=BaseSettings)


def load(kind: type[AnySettings]) -> AnySettings:
    """Read settings from the environment.

    Raises SettingsError naming every wrong variable and, secrets excepted, what it got.
    """
    try:
        return kind()
    except ValidationError as error:
        problems: list[str] = []
        for problem in error.errors(include_input=False):
            field = str(problem["loc"][0])
            variable = _variable(kind, field)
            about = kind.model_fields[field]
            if problem["type"] == "missing":
                problems.append(f"{variable}: is not set. {about.description}")
                continue
            message = problem["msg"].removeprefix("Value error, ")
            secret = about.annotation is SecretStr
            got = "" if secret else f", got {os.environ.get(variable, '')!r}"
            problems.append(f"{variable}: {message}{got}")
        raise SettingsError("\n".join(problems)) from None


def describe(kind: type[BaseSettings]) -> str:
    """Return the variables with their meaning and default, for `--help`."""
    lines: list[str] = []
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default or 'none'}"
        lines.append(f"  {_variable(kind, name)}\n      {field.description} [{default}]")
    return "\n".join(lines)


def _variable(kind: type[BaseSettings], field: str) -> str:
    return f"{kind.model_config.get('env_prefix') or ''}{field}".upper()
