"""What the engine raises where it will not, or cannot, go on."""

from __future__ import annotations

from collections.abc import Sequence


class Refused(Exception):  # noqa: N818 -- a decision, told to the operator, not a programming error
    """The engine will not do what was asked; the message says why and what to do."""


class PlanRefused(Refused):
    """The table cannot be partitioned as it is; nothing was changed."""

    def __init__(self, table: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        lines = "\n".join(f"  - {reason}" for reason in self.reasons)
        super().__init__(f"{table} cannot be partitioned as it is; nothing was changed:\n{lines}")


class LockStarved(Refused):
    """A lock could not be had within all attempts; the work done so far stays."""


class Interrupted(Refused):
    """The operator asked to stop; what was committed stays, and the next run goes on from there."""
