"""What every phase works with: the spec, the options, and sessions set up alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from migrations.database import connect
from migrations.partition.errors import Interrupted
from migrations.partition.names import Names
from migrations.partition.progress import Reporter
from migrations.partition.spec import Spec


@dataclass(frozen=True)
class Options:
    """How to go about it."""

    lock_timeout_milliseconds: int = 500
    attempts: int = 60
    jobs: int = 2
    hold: timedelta | None = None
    """Overrides the spec's `hold`."""
    force: bool = False
    max_lag_seconds: float | None = None
    """How far a standby may be behind before backfill holds back; None is the default."""
    max_lag_bytes: int | None = None
    max_active: int | None = None
    """How many sessions of others may be active before backfill holds back."""
    repair: bool = False
    """Whether verify mends what differs."""
    disk_free: int | None = None
    """Bytes that the new table may take, for the plan; None if not known."""
    most_rows: int = 10_000
    """Rows of one month that maintain moves out of the default partition, while all wait."""


@dataclass(frozen=True)
class Outcome:
    """What a phase did or found; None where it does not apply."""

    outcome: str
    """`done`, `found` (was done before), `refused` or `failed`."""
    message: str
    rows: int | None = None
    """Rows of the table; of backfill those loaded in this run."""
    rows_per_second: float | None = None
    """Of verify and retire, the rows of both tables."""
    seconds: float | None = None
    months: int | None = None
    verified: bool | None = None
    digest: str | None = None
    details: dict[str, Any] | None = None
    """What else there is to say of this command, as items of the JSON object."""

    def as_json(self) -> dict[str, Any]:
        """Return what applies, as a JSON object's items."""
        items: dict[str, Any] = asdict(self)
        items |= items.pop("details") or {}
        return {name: value for name, value in items.items() if value is not None}


@dataclass
class Engine:
    """One run of one operator on one table."""

    spec: Spec
    url: str
    connection: psycopg.Connection
    """Of the operator: in autocommit, and holding the operator lock while a phase runs."""
    options: Options = Options()
    reporter: Reporter = field(default_factory=Reporter)
    purpose: str = "work"
    stopping: threading.Event = field(default_factory=threading.Event)
    _sessions: list[psycopg.Connection] = field(default_factory=list[psycopg.Connection])

    @property
    def names(self) -> Names:
        return Names.of(self.spec)

    @property
    def key(self) -> sql.Identifier:
        return sql.Identifier(self.spec.key)

    def check_stop(self) -> None:
        """Raise Interrupted if the operator asked to stop."""
        if self.stopping.is_set():
            raise Interrupted("stopped on request; run it again to go on from here")

    @contextmanager
    def session(self) -> Generator[psycopg.Connection]:
        """Open one more session, for a worker."""
        connection = open_session(self.url, self.spec, self.purpose, self.options)
        self._sessions.append(connection)
        try:
            yield connection
        finally:
            self._sessions.remove(connection)
            connection.close()

    def stop(self) -> None:
        """Ask all work to stop: statements that run are cancelled, nothing new is begun."""
        self.stopping.set()
        for connection in [self.connection, *self._sessions]:
            if not connection.closed:
                connection.cancel_safe(timeout=5)


def in_parallel(
    name: str, jobs: int, worker: Callable[[int], None], abandon: Callable[[], None]
) -> None:
    """Run `worker(0)` to `worker(jobs - 1)` on threads of that name, and wait for all of them.

    When one of them fails, `abandon` takes away what the others would have begun next. Raises what
    the first in order raised.
    """
    with ThreadPoolExecutor(jobs, name) as pool:
        futures = [pool.submit(worker, number) for number in range(jobs)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            abandon()
        for future in futures:
            future.result()


def open_session(url: str, spec: Spec, purpose: str, options: Options) -> psycopg.Connection:
    """Connect in autocommit, with what the engine relies on: UTC, full names, lock timeout.

    The lock timeout is kept under the server's deadlock timeout, so that in a deadlock with a
    writer it is always the engine that gives way. Raises DatabaseError.
    """
    connection = connect(url, f"partitioning {spec.table}: {purpose}")
    deadlock = connection.execute(
        "SELECT setting::integer FROM pg_settings WHERE name = 'deadlock_timeout'"
    ).fetchone()
    assert deadlock is not None  # noqa: S101 -- the setting exists in every server
    timeout = max(1, min(options.lock_timeout_milliseconds, int(deadlock[0] * 0.9)))
    for setting, value in (
        ("timezone", "UTC"),
        ("search_path", "pg_catalog"),
        # The role's or the database's may be shorter than an index takes to build.
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("datestyle", "ISO, YMD"),
        ("lock_timeout", str(timeout)),
        ("jit", "off"),
        ("default_transaction_isolation", "read committed"),
        # A filtered view of the table would be an incomplete copy: an error instead.
        ("row_security", "off"),
        # The server notices within a second when this process was killed in mid-statement.
        ("client_connection_check_interval", "1000"),
    ):
        connection.execute("SELECT set_config(%s, %s, false)", [setting, value])
    return connection
