"""How large a program's pods are, and how many of them there may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """`cpu` in thousandths of a core, `memory` in MiB; a worker has one pod per `jobs_per_replica`.

    A program with `minimum` = `maximum` is not scaled.
    """

    cpu: int
    memory: int
    minimum: int = 1
    maximum: int = 1
    jobs_per_replica: int = 1

    @property
    def cores(self) -> int:
        """Whole cores, at least one: what a program with a process per core may use."""
        return max(1, self.cpu // 1000)

    @property
    def scaled(self) -> bool:
        return self.minimum != self.maximum

    def resources(self) -> dict[str, dict[str, str]]:
        """Return a container's resources; without a limit of cpu, which would only slow it down."""
        memory = f"{self.memory}Mi"
        return {
            "requests": {"cpu": f"{self.cpu}m", "memory": memory},
            "limits": {"memory": memory},
        }
