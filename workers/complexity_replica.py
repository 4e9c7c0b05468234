"""Reading reviews from a replica, as of a snapshot on the primary or later.

A sum may have seen more than the snapshot that takes its notes away: what came later has left
notes that the snapshot does not show, and is summed again. It must not have seen less. So the
replica is read once it has replayed the log up to where the primary was after the snapshot was
taken: whatever the snapshot shows was committed before that point.
"""

from __future__ import annotations

import logging
import time

import psycopg
from psycopg import sql

from connections import authentication
from workers.complexity_sessions import another_session
from workers.database import CONNECTION_OPTIONS

logger = logging.getLogger(__name__)

# How far behind it may be to be waited for, and how often it is looked at meanwhile.
LAG_SECONDS = 30.0
POLL_SECONDS = 0.05

_STAGE = """
CREATE TEMPORARY TABLE complexity_stage (
    month date, source bigint, actor_id uuid, flashcard_id uuid, reviews bigint,
    weight double precision, signal double precision,
    first_reviewed_at timestamp, last_reviewed_at timestamp
) ON COMMIT DROP
"""


class _UnsuitableError(Exception):
    """Why the replica cannot be read now."""


def stage(
    connection: psycopg.Connection,
    query: sql.Composable,
    replica_url: str | None,
) -> bool:
    """Create the temporary table complexity_stage from the query's answer on the replica.

    `connection` is in a transaction whose snapshot is taken. Returns False, and creates nothing, if
    there is no replica or it cannot be read: the primary is there for that.
    """
    if replica_url is None:
        return False
    try:
        with psycopg.connect(
            replica_url,
            application_name="workers complexity replica",
            **CONNECTION_OPTIONS,
            **authentication.parameters(replica_url, "DATABASE_REPLICA_URL"),
        ) as replica:
            replica.autocommit = True
            replica.execute("SET timezone = 'UTC'")
            _catch_up(connection, replica)
            with connection.transaction(), replica.transaction():
                replica.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")
                connection.execute(_STAGE)
                _pipe(replica, connection, query)
    except (_UnsuitableError, psycopg.Error) as error:
        if connection.broken:
            raise
        logger.warning("reading from the primary instead of the replica: %s", str(error).strip())
        return False
    return True


def _catch_up(primary: psycopg.Connection, replica: psycopg.Connection) -> None:
    system = "SELECT system_identifier::text FROM pg_control_system()"
    if primary.execute(system).fetchone() != replica.execute(system).fetchone():
        raise _UnsuitableError("it is a replica of another cluster")
    row = primary.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    position = row[0] if row else None
    deadline = time.monotonic() + LAG_SECONDS
    if _has_replayed(replica, position):
        return
    # What is not committed is sent only when something that is comes after it.
    with another_session(primary) as session:
        session.execute("SELECT pg_logical_emit_message(true, 'workers', '')")
    while not _has_replayed(replica, position):
        if time.monotonic() > deadline:
            raise _UnsuitableError(f"it is more than {LAG_SECONDS:g} s behind")
        time.sleep(POLL_SECONDS)


def _has_replayed(replica: psycopg.Connection, position: str | None) -> bool:
    # No replica, and no position, once it was promoted: then it goes its own way.
    row = replica.execute(
        "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]
    ).fetchone()
    if row is None or not row[0] or row[1] is None:
        raise _UnsuitableError("it is not replaying the primary's log")
    return row[1]


def _pipe(
    replica: psycopg.Connection, connection: psycopg.Connection, query: sql.Composable
) -> None:
    copy_out = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    copy_in = "COPY complexity_stage FROM STDIN (FORMAT binary)"
    with (
        replica.cursor() as source,
        connection.cursor() as target,
        source.copy(copy_out) as rows,
        target.copy(copy_in) as into,
    ):
        for row in rows:
            into.write(row)
