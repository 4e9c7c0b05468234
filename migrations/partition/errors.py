"""What the engine raises where it will not, or cannot, go on."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import errors

# Connection exceptions, and what a server says that shuts down, crashed or is starting.
_LOST = ("08", "57P")


class Refused(Exception):  # noqa: N818 -- a decision, told to the operator, not a programming error
    """The engine will not do what was asked; the message says why and what to do."""


class PlanRefused(Refused):
    """The table cannot be partitioned as it is; nothing was changed."""

    def __init__(self, table: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        lines = "\n".join(f"  - {reason}" for reason in self.reasons)
        super().__init__(f"{table} cannot be partitioned as it is; nothing was changed:\n{lines}")


class Busy(Refused):
    """Somebody else works on the table; the message says who."""


class LockStarved(Refused):
    """A lock could not be had within all attempts; the work done so far stays."""


class Interrupted(Refused):
    """The operator asked to stop; what was committed stays, and the next run goes on from there."""


def failure(error: psycopg.Error) -> str:
    """Say in a line what failed, and what to do where the operator can do something."""
    text = " ".join(str(error).split())
    code = error.sqlstate
    if isinstance(error, errors.OperationalError) and (code is None or code.startswith(_LOST)):
        return (
            f"the connection to the database was lost: {text}. What was committed stays: run it"
            " again when the server is back, and it goes on from there"
        )
    if isinstance(error, errors.DiskFull):
        return (
            f"the database's disk is full: {text}. What was committed stays: make room, and run it"
            " again, and it goes on from there"
        )
    return f"{type(error).__name__}: {text}"
