"""Locks: one operator a table, and transactions that never wait long for a lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from datetime import date
from typing import TypeVar

import psycopg
from psycopg import errors
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random,
    wait_random_exponential,
)

from migrations.partition.engine import Engine
from migrations.partition.errors import Busy, LockStarved

# Arbitrary, but the same for ever. The second key of the operator lock is the table's name, hashed;
# that of a month lock is the month's number.
OPERATOR_CLASS = 730_511_201
_MONTH_CLASS = 731_000_000
_PATIENCE_SECONDS = 5.0
"""How long to wait for the session of an operator who was killed to be noticed as gone."""

T = TypeVar("T")

_HOLDER = """
SELECT format('pid %%s%%s%%s%%s', l.pid,
    coalesce(', role ' || a.usename, ''), coalesce(', ' || nullif(a.application_name, ''), ''),
    coalesce(' from ' || host(a.client_addr) || ':' || a.client_port, '')
    || coalesce(', since ' || to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'), ''))
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s::oid
    AND l.objid = (hashtext(%s)::bigint & 4294967295)::oid AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# Of the tables that foreign keys point at only locks against writers count; all, when one of these
# was what could not be had. The engine's own sessions share one application_name.
_BLOCKERS = """
WITH own AS (
    SELECT DISTINCT to_regclass(name)::oid AS oid FROM unnest(%(relations)s::text[]) AS name
    WHERE to_regclass(name) IS NOT NULL
    UNION SELECT r.ev_class FROM pg_depend AS d
    JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass(%(live)s)
    UNION SELECT i.inhrelid FROM pg_inherits AS i
    JOIN unnest(%(relations)s::text[]) AS name ON i.inhparent = to_regclass(name)
), holders AS (
    SELECT DISTINCT l.pid, CASE WHEN l.pid IS NULL THEN l.virtualtransaction END AS prepared
    FROM pg_locks AS l
    WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.relation IN (TABLE own)
            OR (%(readers)s OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
                AND l.relation IN (SELECT confrelid FROM pg_constraint
                    WHERE contype = 'f' AND conrelid IN (TABLE own))
            OR l.locktype = 'advisory' AND l.classid = %(month_class)s::oid)
)
SELECT CASE WHEN h.pid IS NULL
    THEN format('prepared transaction %%s (pg_prepared_xacts)', h.prepared)
    ELSE format('pid %%s%%s%%s%%s', h.pid, coalesce(' (' || a.usename || ')', ''),
        coalesce(', transaction open for ' || date_trunc('second', now() - a.xact_start), ''),
        coalesce(', ' || a.state || ': ' || left(a.query, 60), '')) END
FROM holders AS h LEFT JOIN pg_stat_activity AS a USING (pid)
WHERE a.application_name IS DISTINCT FROM nullif(current_setting('application_name'), '')
ORDER BY a.xact_start NULLS FIRST LIMIT 5
"""


class NotYet(Exception):  # noqa: N818 -- a state to wait out
    """This attempt is given up; a later one may do better. The message says what is in the way.

    `soon`: there is nothing to wait for, so that the next attempt need not be put off long.
    """

    def __init__(self, message: str, soon: bool = False) -> None:
        self.soon = soon
        super().__init__(message)


def month_class(table_id: int) -> int:
    """Return the first key of the advisory locks for the months of a table."""
    return _MONTH_CLASS + table_id


def month_number(month: date) -> int:
    """Return the second key: months since the year 0, as the trigger functions count them."""
    return 12 * month.year + month.month


@contextmanager
def operator_lock(engine: Engine, patience: float | None = None) -> Generator[None]:
    """Hold the lock that lets one operator work on the table; wait for it for `patience` seconds.

    Raises Busy naming who holds it. It lasts as long as the session, so that it is gone when
    the process is killed.
    """
    table = engine.spec.table
    parameters = [OPERATOR_CLASS, table]
    deadline = time.monotonic() + (_PATIENCE_SECONDS if patience is None else patience)
    while True:
        row = engine.connection.execute(
            "SELECT pg_try_advisory_lock(%s, hashtext(%s))", parameters
        ).fetchone()
        if row and row[0]:
            break
        if time.monotonic() > deadline:
            holder = "; ".join(operators(engine)) or "a session that just ended"
            raise Busy(f"somebody else works on {table}: {holder}. Wait for it, or stop it")
        time.sleep(0.2)
    try:
        yield
    finally:
        if not engine.connection.closed and not engine.connection.broken:
            engine.connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", parameters)


def operators(engine: Engine) -> list[str]:
    """Say who works on the table now."""
    rows = engine.connection.execute(_HOLDER, [OPERATOR_CLASS, engine.spec.table]).fetchall()
    return [row[0] for row in rows]


def blockers(
    engine: Engine,
    table_id: int | None,
    connection: psycopg.Connection | None = None,
    readers: bool = False,
) -> list[str]:
    """Say who holds locks on the table, its copy, its views, its months, or what it refers to.

    The oldest first. With `readers` also who merely reads what it refers to.
    """
    names = engine.names
    relations = (names.live, names.partitioned, names.retired)
    rows = (connection or engine.connection).execute(
        _BLOCKERS,
        {
            "live": names.live.as_string(),
            "relations": [relation.as_string() for relation in relations],
            "readers": readers,
            "month_class": month_class(table_id) if table_id is not None else 0,
        },
    )
    return [row[0] for row in rows.fetchall()]


_growing = wait_random_exponential(multiplier=0.05, max=2, min=0.02)
_short = wait_random(0.01, 0.1)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return (_short if isinstance(error, NotYet) and error.soon else _growing)(state)


def in_short_transaction(
    engine: Engine,
    what: str,
    action: Callable[[psycopg.Connection], T],
    *,
    connection: psycopg.Connection | None = None,
    table_id: int | None = None,
    before: Callable[[], None] | None = None,
    autocommit: bool = False,
) -> T:
    """Run `action` in a transaction; try again, after a pause, when a lock is not to be had.

    Pauses are random and grow to two seconds. `before` runs before each attempt, outside the
    transaction. With `autocommit` there is no transaction around the action, for statements that
    make their own. Raises LockStarved when all attempts failed.
    """
    session = connection or engine.connection

    def attempt() -> T:
        engine.check_stop()
        try:
            if before:
                before()
            with nullcontext() if autocommit else session.transaction():
                return action(session)
        except errors.QueryCanceled:
            engine.check_stop()
            raise

    retrying = Retrying(
        retry=retry_if_exception_type(
            (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled, NotYet)
        ),
        stop=stop_after_attempt(engine.options.attempts),
        wait=_pause,
        sleep=lambda seconds: (engine.stopping.wait(seconds), None)[1],
    )
    try:
        return retrying(attempt)
    except RetryError as error:
        cause = error.last_attempt.exception()
        reason = str(cause) if isinstance(cause, NotYet) else "a lock could not be had"
        attempts = f"{reason}, in {engine.options.attempts} attempts"
        raise starved(engine, f"{what}: {attempts}", table_id, session) from cause


def starved(
    engine: Engine,
    what: str,
    table_id: int | None = None,
    connection: psycopg.Connection | None = None,
) -> LockStarved:
    """Return the error for a lock that could not be had, naming who holds locks at this moment."""
    held = "; ".join(blockers(engine, table_id, connection, readers=True))
    return LockStarved(
        what
        + (f". In the way: {held}" if held else "")
        + ". Nothing of it was done; run it again when they have ended, or with more --attempts"
    )
