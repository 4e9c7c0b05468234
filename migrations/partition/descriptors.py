"""What sessions remember of a table's partitions, and how they come to know of new ones.

A session reads the list of a table's partitions once, and keeps it until it is told of a change.
ATTACH PARTITION lets others go on, and there are two ways to keep a list without the new partition,
in which rows of that month fail ("no partition of relation found for row"): who reads the list at
that very moment may be told of the change before it has stored what it read, and is not told again;
who holds a lock on the table already need not be told before its transaction ends. Both hold a lock
on the table at the attach. So: wait for the transactions that do, and then tell everybody again.
"""

from __future__ import annotations

import time

from psycopg import sql

from migrations.partition.engine import Engine
from migrations.partition.locks import in_short_transaction
from migrations.partition.statements import template

# A prepared transaction, which has no pid, reads nothing any more.
_HOLDERS = """
SELECT coalesce(array_agg(DISTINCT virtualtransaction), '{}') FROM pg_locks
WHERE locktype = 'relation' AND pid <> pg_backend_pid() AND relation = %s::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_LEFT = """
SELECT DISTINCT pid FROM pg_locks
WHERE locktype = 'relation' AND relation = %s::regclass AND virtualtransaction = ANY(%s)
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1
"""
_TARGET = """
SELECT coalesce(attstattarget, -1) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s
"""


def refresh(
    engine: Engine, relation: sql.Identifier, table_id: int, patience_seconds: float
) -> list[int]:
    """Let every session look again which partitions `relation` has, as of now.

    Waits up to `patience_seconds` for the transactions that hold a lock on it. Returns the pids of
    those still there: their sessions, and no others, may yet miss a partition. Nobody waits for us.
    Raises LockStarved if VACUUM, ANALYZE or the like is at the table.
    """
    connection = engine.connection
    name = relation.as_string()
    row = connection.execute(_HOLDERS, [name]).fetchone()
    holders: list[str] = row[0] if row else []
    deadline = time.monotonic() + patience_seconds
    while (left := connection.execute(_LEFT, [name, holders]).fetchall()) and (
        time.monotonic() < deadline
    ):
        engine.check_stop()
        time.sleep(0.02)
    target = connection.execute(_TARGET, [name, engine.spec.key]).fetchone()
    assert target is not None  # noqa: S101 -- the key column of a table that is there
    statement = template(
        "refresh_descriptors", relation=relation, key=engine.key, target=sql.Literal(target[0])
    )
    in_short_transaction(
        engine,
        f"tell of the partitions of {name}",
        lambda session: session.execute(statement),
        table_id=table_id,
    )
    return [pid for (pid,) in left]
