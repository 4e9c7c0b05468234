"""Settings of the four programs, read from environment variables and validated."""

from __future__ import annotations

import math
import os
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connections import authentication
from workers import cron

FSRS_QUEUE = "fsrs-optimization"
COMPLEXITY_QUEUE = "complexity"


class SettingsError(ValueError):
    """An environment variable is missing or wrong; the message names it."""


def _url(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            _ = parts.port
        except ValueError:
            raise ValueError("is no URL") from None
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"takes a URL like {schemes[0]}://user:password@host:port/database")
        return value

    return AfterValidator(check)


_OURS = {"client_name", "decode_responses", "retry", "retry_on_error", "retry_on_timeout"}


def _redis_options(value: SecretStr) -> SecretStr:
    from redis.asyncio.connection import Connection, SSLConnection
    from redis.exceptions import RedisError

    from workers import connections

    # ValueErrors say themselves what is wrong.
    options = connections.parse(value.get_secret_value()).options
    for name in _OURS & options.keys():
        raise ValueError(f"takes no option {name}, which is ours to choose")
    try:
        (SSLConnection if options.pop("ssl", False) else Connection)(**options)
    except (TypeError, ValueError, RedisError):
        # What redis-py says of it may show the password.
        raise ValueError("has an option, after the ?, that redis-py does not take") from None
    return value


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class DatabaseSettings(BaseSettings):
    """What is needed to connect to Postgres."""

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, hide_input_in_errors=True, validate_default=False
    )

    database_url: Annotated[SecretStr, _url("postgresql", "postgres")] = Field(
        description="Postgres, as postgresql://role:password@host:port/database."
    )
    database_authentication: Literal["password", "aws-iam"] = Field(
        "password",
        description="How to log in: with the URL's password, or with a token of AWS IAM, which "
        "takes sslmode=verify-full in the URL, and AWS_REGION.",
    )

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        self.require_login(self.database_url, "DATABASE_URL")
        return self

    def require_login(self, url: SecretStr, variable: str) -> None:
        """Raise ValueError if the URL of `variable` does not fit the way to log in."""
        try:
            conninfo_to_dict(url.get_secret_value())
            authentication.require(url.get_secret_value(), variable, self.database_authentication)
        except ProgrammingError:
            # What libpq says of it may show the password.
            raise ValueError(f"{variable}: has a part that libpq does not take") from None


class Settings(DatabaseSettings):
    """What every program needs."""

    redis_url: Annotated[SecretStr, AfterValidator(_redis_options)] = Field(
        description="Valkey or Redis, as redis://user:password@host:port/0; rediss:// for TLS, "
        "with ?ssl_ca_certs=PATH for an authority of your own; redis+sentinel://user:password@"
        "host:port,host:port/0?primary=NAME to ask Sentinels."
    )
    queue_prefix: str = Field(
        "bull",
        min_length=1,
        pattern=r"^[!-~]+$",
        description="Prefix of every BullMQ key; {bull} for a cluster.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address that serves /metrics, /healthz and /readyz."
    )
    metrics_port: Port = Field(0, description="Port of the same; 0 takes any free one.")
    log_format: Literal["console", "json"] = Field("console", description="Format of the log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged."
    )


class WorkerSettings(Settings):
    """What the queue workers need besides."""

    concurrency: int = Field(1, ge=1, le=1000, description="Jobs taken from the queue at a time.")
    processes: int = Field(1, ge=1, le=256, description="Processes the jobs run in.")
    drain_seconds: Seconds = Field(
        25, description="Time running jobs get after SIGTERM before they go back to the queue."
    )
    lock_seconds: Seconds = Field(
        30, description="Lifetime of a job's lock, renewed while the job runs."
    )
    stalled_interval_seconds: Seconds = Field(
        30, description="How often jobs of vanished workers are looked for."
    )
    max_stalled_count: int = Field(
        3, ge=0, description="Times a job may lose its worker before it fails."
    )
    rate_limit_jobs: int = Field(
        0, ge=0, description="Jobs all workers of the queue begin in a period; 0 for no limit."
    )
    rate_limit_seconds: Seconds = Field(1, description="The period of that limit.")
    keep_completed_jobs: int = Field(
        1000, ge=0, description="Completed jobs kept, where the producer has not said."
    )
    keep_completed_seconds: int = Field(86400, ge=1, description="How long they are kept.")
    keep_failed_jobs: int = Field(
        10000, ge=0, description="Failed jobs kept, where the producer has not said."
    )
    keep_failed_seconds: int = Field(604800, ge=1, description="How long they are kept.")


class FsrsOptimizationSettings(WorkerSettings):
    """`python -m workers fsrs-optimization`."""

    metrics_port: Port = Field(9201, description="Port of the same; 0 takes any free one.")
    # One job more than there are processes, so that none waits for the queue.
    concurrency: int = Field(
        (os.cpu_count() or 1) + 1, ge=1, le=1000, description="Jobs taken from the queue at a time."
    )
    processes: int = Field(
        os.cpu_count() or 1, ge=1, le=256, description="Processes that train, one a core."
    )
    fsrs_min_reviews: int = Field(
        200, ge=1, description="Actors with fewer reviews are skipped with that reason."
    )


class ComplexitySettings(WorkerSettings):
    """`python -m workers complexity`."""

    metrics_port: Port = Field(9202, description="Port of the same; 0 takes any free one.")
    cdc_weight_grade: Share = Field(0.5, description="Weight of the grade in a review's signal.")
    cdc_weight_stability: Share = Field(
        0.3, description="Weight of the stability-gain deficit in a review's signal."
    )
    cdc_weight_retrievability: Share = Field(
        0.2, description="Weight of the retrievability surprise in a review's signal."
    )
    cdc_decay_per_day: float = Field(
        0.01, ge=0, le=10, description="Lambda: how fast a review loses weight with age."
    )
    cdc_propagation: float = Field(
        0.3, ge=0, lt=1, description="Share of a node's complexity that its neighbours give."
    )
    cdc_rows_per_job: int = Field(
        250_000,
        ge=1,
        description="Reviews a job sums up; where there are more, months become jobs of their own.",
    )
    cdc_connections: int = Field(
        2, ge=1, le=16, description="Connections to Postgres that a calculation uses at a time."
    )
    database_replica_url: Annotated[SecretStr, _url("postgresql", "postgres")] | None = Field(
        None, description="A replica of the same Postgres, to read reviews from; none by default."
    )

    @model_validator(mode="after")
    def _can_log_in_to_replica(self) -> Self:
        if self.database_replica_url is not None:
            self.require_login(self.database_replica_url, "DATABASE_REPLICA_URL")
        return self

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        total = self.cdc_weight_grade + self.cdc_weight_stability + self.cdc_weight_retrievability
        if not math.isclose(total, 1, abs_tol=1e-9):
            raise ValueError(
                "CDC_WEIGHT_GRADE, CDC_WEIGHT_STABILITY and CDC_WEIGHT_RETRIEVABILITY "
                f"must sum to 1, they sum to {total:g}"
            )
        return self


class SchedulerSettings(Settings):
    """`python -m workers scheduler`."""

    metrics_port: Port = Field(9203, description="Port of the same; 0 takes any free one.")
    scheduler_interval_seconds: Seconds = Field(
        60, description="How often actors with new reviews are looked for."
    )
    fsrs_min_reviews: int = Field(200, ge=1, description="Reviews an actor needs at all.")
    fsrs_min_new_reviews: int = Field(
        50, ge=1, description="Reviews an actor needs since the last run."
    )
    complexity_cron: Annotated[str, AfterValidator(cron.require_pattern)] = Field(
        "0 * * * *", description="When the complexity is computed, in UTC."
    )
    job_attempts: int = Field(3, ge=1, description="Attempts of every job added.")
    job_backoff_seconds: Seconds = Field(
        1, description="Pause before the second attempt; doubled for each further one."
    )
    failed_job_hold_seconds: Seconds = Field(
        86400, description="How long a failed job is kept and holds back the next one like it."
    )


class ExporterSettings(Settings):
    """`python -m workers exporter`."""

    metrics_port: Port = Field(9204, description="Port of the same; 0 takes any free one.")
    queues: list[str] = Field(
        [FSRS_QUEUE, COMPLEXITY_QUEUE],
        description='Queues to report, as a JSON list: ["fsrs-optimization"]; [] for all.',
    )
    discovery_seconds: Seconds = Field(
        60, description="How often all queues are looked for, if QUEUES is []."
    )


AnySettings = TypeVar("AnySettings", bound=DatabaseSettings)


def load(kind: type[AnySettings]) -> AnySettings:
    """Read the settings of one program from the environment.

    Raises SettingsError naming every wrong variable, what it got (secrets excepted) and why that
    will not do.
    """
    from pydantic_settings import SettingsError as UnreadableError

    try:
        return kind()  # pyright: ignore[reportCallIssue] -- the environment has the arguments
    except UnreadableError as error:
        raise SettingsError(f"QUEUES: takes a JSON list ({error})") from None
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(kind, error))) from None


def _explain(kind: type[DatabaseSettings], error: ValidationError) -> list[str]:
    lines: list[str] = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            lines.append(message)
            continue
        field = str(problem["loc"][0])
        variable = field.upper()
        if problem["type"] == "missing":
            lines.append(f"{variable}: is not set. {kind.model_fields[field].description}")
        elif _is_secret(kind.model_fields[field].annotation):
            lines.append(f"{variable}: {message}")
        else:
            lines.append(f"{variable}: {message}, got {os.environ.get(variable, '')!r}")
    return lines


def _is_secret(annotation: Any) -> bool:
    """Tell whether values of this type may be secrets, as in `Annotated[SecretStr, …] | None`."""
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


def describe(kind: type[DatabaseSettings]) -> str:
    """Return the variables of one program with their meaning and default, for `--help`."""
    lines: list[str] = []
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default}"
        lines.append(f"  {name.upper()}\n      {field.description} [{default}]")
    return "\n".join(lines)
