"""Connections to Postgres, and the schema `workers` that holds this package's own tables."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import errors, sql

from connections import authentication

# A connection that died without a word is noticed within half a minute.
CONNECTION_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30000,
}

CANCEL_TIMEOUT = 2.0

# Arbitrary, but the same for ever: everybody who takes the lock must mean the same one.
BOOKKEEPING_LOCK = 7_305_112_001
CALCULATION_LOCK = 7_305_112_002
SCHEDULER_LOCK = 7_305_112_003


@cache
def statement(name: str) -> sql.SQL:
    """Return the SQL of `workers/sql/<name>.sql`."""
    return sql.SQL(files("workers").joinpath("sql", f"{name}.sql").read_text())  # pyright: ignore[reportArgumentType] -- our own files


def is_unavailable(error: psycopg.Error) -> bool:
    """Tell whether the server is away, as opposed to unhappy with what it was asked."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    # 08: connection lost; 57P01 to 57P05: shutting down, starting up, gone; 53300: no free slot.
    code = error.sqlstate
    return code is None or code.startswith(("08", "57P")) or code == "53300"


def is_passing(error: psycopg.Error) -> bool:
    """Tell whether the same statements, on a new connection, should do.

    A table that is swapped for its partitioned successor is for a moment not there, or not what a
    statement was prepared for; and locks go to one of several who want them.
    """
    if isinstance(error, errors.FeatureNotSupported):
        return "cached plan" in str(error)
    if isinstance(error, errors.InternalError_):
        return "could not open relation" in str(error)
    return isinstance(
        error,
        errors.UndefinedTable
        | errors.LockNotAvailable
        | errors.DeadlockDetected
        | errors.SerializationFailure,
    )


class Database:
    """One connection in autocommit, opened when first used and again after it broke.

    A `statement_timeout`, in milliseconds, ends what takes longer; 0 ends nothing.
    """

    def __init__(self, url: str, application_name: str, statement_timeout: int = 0) -> None:
        self._url = url
        self._application_name = application_name
        self._statement_timeout = statement_timeout
        self._connection: psycopg.Connection | None = None

    def connection(self) -> psycopg.Connection:
        """Return the connection, with a log-in of its own if it is a new one.

        Raises psycopg.OperationalError if there is no server, or nothing to log in with.
        """
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                application_name=self._application_name,
                **CONNECTION_OPTIONS,
                **authentication.parameters(self._url),
            )
            # Calendar days and ages are reckoned in UTC whatever the role's default is.
            self._connection.execute(
                "SELECT set_config('timezone', 'UTC', false),"
                " set_config('statement_timeout', %s, false),"
                # What a killed worker was in the middle of ends, and lets go of its locks.
                " set_config('client_connection_check_interval', '5s', false)",
                [str(self._statement_timeout)],
            )
        return self._connection

    def cancel(self) -> None:
        """Stop the statement another thread is waiting for, if there is one."""
        if self._connection is not None and not self._connection.closed:
            with suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    def discard(self) -> None:
        """Close the connection, with whatever it was in the middle of."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def ensure_bookkeeping(connection: psycopg.Connection) -> None:
    """Create the schema `workers` and its tables where they are missing."""
    found = connection.execute(
        "SELECT to_regclass('workers.fsrs_runs') IS NOT NULL"
        " AND to_regclass('workers.complexity_runs') IS NOT NULL"
    ).fetchone()
    if found is not None and found[0]:
        return
    with connection.transaction():
        # IF NOT EXISTS alone does not keep two sessions from creating the same at once.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [BOOKKEEPING_LOCK])
        connection.execute(statement("bookkeeping"))
