"""What a platform gives the rest of a stack: once for `local`, once for AWS.

The composition (stacks/composition.py) is the same everywhere and knows nothing but this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pulumi

DATABASE_URL = "DATABASE_URL"
DATABASE_REPLICA_URL = "DATABASE_REPLICA_URL"
REDIS_URL = "REDIS_URL"
LOG_FORMAT = "LOG_FORMAT"


@dataclass(frozen=True)
class StepSpec:
    """One database step: a command that runs to its end, and the one that takes it back.

    `command` and `undo` are arguments of the project's Python (`-m migrations upgrade`); the
    platform gives them `DATABASE_URL`. The command prints a JSON object as its last line of output.
    `sql` is what the command will run, for the eyes of a reviewer. A step without `undo` leaves
    what it did when it is taken away, as tables do that belong to the application; one with a
    `refusal` cannot be taken away, and the text tells why and what to do.
    """

    command: Sequence[str]
    sql: str
    undo: Sequence[str] = ()
    refusal: str = ""


@dataclass(frozen=True)
class ServiceSpec:
    """One long-running process of ours: arguments of the project's Python, and its environment.

    The platform adds `DATABASE_URL`, `REDIS_URL`, the form of the log, and where to serve
    `/metrics` and `/readyz`; for one that `reads_replica` also `DATABASE_REPLICA_URL`, if there is
    a replica. A change of the source of its `packages` is a reason to restart it.
    """

    command: Sequence[str]
    packages: Sequence[str]
    environment: Mapping[str, pulumi.Input[str]] = field(
        default_factory=dict[str, pulumi.Input[str]]
    )
    stop_seconds: int = 30
    reads_replica: bool = False


@dataclass(frozen=True)
class PeriodicSpec:
    """A command that runs by the clock; `schedule` is a cron pattern, in UTC."""

    command: Sequence[str]
    schedule: str


class Platform(Protocol):
    """The places where a stack's data, services and steps live."""

    @property
    def database_url(self) -> pulumi.Output[str]: ...

    @property
    def redis_url(self) -> pulumi.Output[str]: ...

    @property
    def workers_role(self) -> str | None:
        """The role the services log in as; None where it is the owner's, as the steps' is."""
        ...

    def step(self, name: str, spec: StepSpec, after: Sequence[pulumi.Resource]) -> pulumi.Resource:
        """Declare a step that runs after those of `after`."""
        ...

    def result(self, step: pulumi.Resource) -> pulumi.Output[dict[str, Any]]:
        """Return what the step's command printed at its end."""
        ...

    def service(
        self, name: str, spec: ServiceSpec, after: Sequence[pulumi.Resource]
    ) -> pulumi.Resource:
        """Declare a service that starts after `after`, and is scraped."""
        ...

    def periodic(self, name: str, spec: PeriodicSpec, after: Sequence[pulumi.Resource]) -> None:
        """Declare what runs by the clock, where the platform has one."""
        ...

    def monitoring(self) -> None:
        """Declare Prometheus and Alertmanager over the services declared before."""
        ...

    def outputs(self) -> dict[str, pulumi.Input[object]]:
        """Return the outputs of the stack that depend on the platform."""
        ...
