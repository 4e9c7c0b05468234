"""What the planner needs to know of the new table before it is used."""

from __future__ import annotations

from collections import deque

import psycopg
from psycopg import sql

from migrations.partition.catalogue import Table
from migrations.partition.engine import Engine, in_parallel

_ANALYZE_ONLY = 180_000
"""The version of Postgres since which a partitioned table is analyzed without its partitions."""

# Autovacuum analyzes partitions by itself, and may have done so; never the partitioned table.
_NEVER_ANALYZED = """
SELECT n.nspname, c.relname FROM pg_partition_tree(%s) AS t
JOIN pg_class AS c ON c.oid = t.relid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
WHERE t.isleaf AND s.last_analyze IS NULL AND s.last_autoanalyze IS NULL ORDER BY 1, 2
"""


def analyze(engine: Engine, new: Table) -> None:
    """Analyze the partitions that never were, on `jobs` connections, and the table itself."""
    table = sql.Identifier(new.schema, new.name)
    if engine.connection.info.server_version < _ANALYZE_ONLY:
        engine.connection.execute(sql.SQL("ANALYZE (SKIP_LOCKED) {}").format(table))
        return
    todo = deque(
        sql.Identifier(schema, name)
        for schema, name in engine.connection.execute(_NEVER_ANALYZED, [new.oid])
    )

    def worker(_: int) -> None:
        with engine.session() as session:
            while not engine.stopping.is_set() and _analyze_next(session, todo):
                pass

    jobs = max(1, min(engine.options.jobs, len(todo)))
    in_parallel("analyze", jobs, worker, todo.clear)
    engine.check_stop()
    engine.connection.execute(sql.SQL("ANALYZE (SKIP_LOCKED) ONLY {}").format(table))


def _analyze_next(session: psycopg.Connection, todo: deque[sql.Identifier]) -> bool:
    try:
        partition = todo.popleft()
    except IndexError:
        return False
    # Locked: autovacuum is at it.
    session.execute(sql.SQL("ANALYZE (SKIP_LOCKED) {}").format(partition))
    return True
