"""Settings of the receiver, read from environment variables and validated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(ValueError):
    """An environment variable is missing or wrong; the message names it."""


class ReceiverSettings(BaseSettings):
    """Where the receiver listens and what it keeps."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, env_prefix="RECEIVER_")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        9094, description="Port to listen on; 0 takes any free one."
    )
    log: Path | None = Field(
        None, description="File that gets every alert as a JSON line; without it only stdout does."
    )
    log_bytes: Annotated[int, Field(ge=1024)] = Field(
        5_000_000, description="Size at which the file becomes `<log>.1` and a new one begins."
    )


def load_receiver_settings() -> ReceiverSettings:
    """Read the settings from the environment.

    Raises SettingsError naming every wrong variable and what it got.
    """
    try:
        return ReceiverSettings()  # pyright: ignore[reportCallIssue] -- the environment has them
    except ValidationError as error:
        problems: list[str] = []
        for problem in error.errors():
            variable = f"RECEIVER_{problem['loc'][0]}".upper()
            problems.append(f"{variable}: {problem['msg']}, got {os.environ.get(variable, '')!r}")
        raise SettingsError("\n".join(problems)) from None


def describe_receiver_settings() -> str:
    """Return the variables with their meaning and default, for `--help`."""
    return "\n".join(
        f"  RECEIVER_{name.upper()}\n      {field.description} [default {field.default}]"
        for name, field in ReceiverSettings.model_fields.items()
    )
