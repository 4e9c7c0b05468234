"""Waiting for locks without getting in the way: short waits, pauses with jitter, a limit.

Who waits for an ACCESS EXCLUSIVE lock makes everybody behind it wait too. So each wait is short,
and between two of them the application has its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class LockPolicy:
    """How long to wait for a lock, and how often to try."""

    timeout: int = 500
    """Milliseconds."""
    attempts: int = 60

    def __post_init__(self) -> None:
        if self.timeout < 1 or self.attempts < 1:
            raise ValueError("the lock timeout and the number of attempts are at least 1")


@dataclass(frozen=True)
class LockHolder:
    """A session that holds a lock; never the text of its query, which may hold secrets."""

    pid: int
    application_name: str
    state: str | None
    """None where the role may not see it."""
    query_start: datetime | None
    """When the session's current, or last, query began."""
    held: str

    def __str__(self) -> str:
        details = [self.state or "state not visible to this role"]
        if self.query_start is not None:
            start = self.query_start.astimezone(UTC)
            details.append(f"query started {start.isoformat(timespec='seconds')}")
        name = f'"{self.application_name}"' if self.application_name else "without a name"
        return f"session {self.pid} ({name}, {', '.join(details)}) holds {self.held}"


class LockUnavailableError(Exception):
    """A lock was not to be had in all the attempts."""

    def __init__(self, attempts: int, holders: str) -> None:
        super().__init__(f"no lock in {attempts} attempts; {holders}")


def driver_error(error: BaseException) -> psycopg.Error | None:
    """Return the error of the driver, also where SQLAlchemy has wrapped it."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return original if isinstance(original, psycopg.Error) else None


def is_lock_problem(error: BaseException) -> bool:
    """Tell whether the statement may succeed as it is once others have let go.

    A cancelled query is one whose many locks, each had in time, took too long together.
    """
    kinds = (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled)
    return isinstance(driver_error(error), kinds)


def with_retries(
    policy: LockPolicy,
    action: Callable[[], Result],
    holders: Callable[[], str],
    progress: Callable[[str], None],
) -> Result:
    """Return what `action` returns, tried again when it did not get its locks.

    `holders` tells who stands in the way; it is called after each failed attempt.
    Raises LockUnavailableError after the last attempt, and at once whatever else goes wrong.
    """
    seen = ""

    def look(_state: RetryCallState) -> None:
        nonlocal seen
        seen = holders()

    def announce(state: RetryCallState) -> None:
        progress(
            f"  no lock within {policy.timeout} ms: {seen}; "
            f"attempt {state.attempt_number + 1} of {policy.attempts}"
            f" in {state.upcoming_sleep:.1f} s"
        )

    def give_up(_state: RetryCallState) -> Result:
        raise LockUnavailableError(policy.attempts, seen)

    return Retrying(
        stop=stop_after_attempt(policy.attempts),
        wait=wait_random_exponential(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS),
        retry=retry_if_exception(is_lock_problem),
        after=look,
        before_sleep=announce,
        retry_error_callback=give_up,
    )(action)


def find_holders(
    connection: psycopg.Connection, query: bytes, parameters: dict[str, Any]
) -> list[LockHolder]:
    """Return the sessions `query` finds, those with the oldest transaction first."""
    rows = connection.execute(query, parameters).fetchall()
    return [LockHolder(*row) for row in rows]


def describe(holders: list[LockHolder]) -> str:
    """Return one line about the sessions, three of them at most."""
    if not holders:
        return "whoever held it has let go since"
    shown = "; ".join(map(str, holders[:3]))
    return shown + (f"; and {len(holders) - 3} more" if len(holders) > 3 else "")
