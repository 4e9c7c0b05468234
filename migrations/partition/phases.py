"""The phases of a partitioning, in the order in which they are done."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """One step; each can be run again, and says what it found."""

    PREPARE = "prepare"
    SYNC = "sync"
    BACKFILL = "backfill"
    VERIFY = "verify"
    CUTOVER = "cutover"
    RETIRE = "retire"

    @property
    def position(self) -> int:
        """The place in the order, 0 for the first."""
        return list(Phase).index(self)

    @property
    def predecessor(self) -> Phase | None:
        """The phase that must be done before this one."""
        return list(Phase)[self.position - 1] if self.position else None
