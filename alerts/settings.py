"""Settings of the receiver and of the drills: environment variables, validated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


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


def _with_scheme(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            _ = parts.port
        except ValueError:
            raise ValueError("is no URL") from None
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"takes a URL like {schemes[0]}://host:port")
        return value

    return AfterValidator(check)


# Secret too: a server behind a proxy may have its password in the URL.
HttpUrl = Annotated[SecretStr, _with_scheme("http", "https")]


class DrillSettings(BaseSettings):
    """The running stack a drill works on."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, hide_input_in_errors=True)

    redis_url: Annotated[SecretStr, _with_scheme("redis", "rediss")] = Field(
        description="Valkey or Redis, as redis://user:password@host:port/0."
    )
    prometheus_url: HttpUrl = Field(description="Prometheus that has the rules loaded.")
    alertmanager_url: HttpUrl = Field(description="Alertmanager it sends alerts to.")
    queue_prefix: str = Field("bull", min_length=1, description="Prefix of every BullMQ key.")
