"""The application's tables, as far as a history fills them."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

from history.sources import HistoryError

COLUMNS = {
    "actors": ("id", "createdAt"),
    "flashcards": ("id", "activityPubId"),
    "nodes": ("id", "type", "properties"),
    "edges": ("id", "sourceId", "targetId", "type", "properties"),
    "review_logs": (
        "id",
        "flashcardId",
        "actorId",
        "rating",
        "state",
        "elapsed_time",
        "reviewed_at",
        "scheduled_on",
        "previousState",
    ),
}

_MISSING = """
SELECT wanted.table_name, wanted.column_name, to_regclass(wanted.table_name) IS NOT NULL AS exists
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (table_name, column_name, place)
LEFT JOIN pg_attribute ON
    attrelid = to_regclass(wanted.table_name) AND attname = wanted.column_name AND NOT attisdropped
WHERE attname IS NULL
ORDER BY wanted.place
"""


def require_tables(connection: psycopg.Connection) -> None:
    """Raise HistoryError, naming what is missing, unless all tables and columns are there."""
    pairs = [(table, column) for table, columns in COLUMNS.items() for column in columns]
    rows = connection.execute(_MISSING, [list(side) for side in zip(*pairs, strict=True)])
    missing = [f'{table}."{column}"' if exists else table for table, column, exists in rows]
    if missing:
        raise HistoryError(
            f"the database lacks {', '.join(dict.fromkeys(missing))}: "
            "run `python -m migrations upgrade` first"
        )


def tables_with_rows(connection: psycopg.Connection) -> list[str]:
    """Return the names of those tables that hold any row."""
    query = "SELECT EXISTS (SELECT FROM {})"
    return [table for table in COLUMNS if _value(connection, query, table)]


def count(connection: psycopg.Connection, table: str) -> int:
    """Return the number of rows of one table."""
    return _value(connection, "SELECT count(*) FROM {}", table)


def analyze(connection: psycopg.Connection) -> None:
    """Have the server gather statistics, so that queries are planned well from the start."""
    tables = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    connection.execute(sql.SQL("ANALYZE {}").format(tables))


def _value(connection: psycopg.Connection, query: LiteralString, table: str) -> int:
    row = connection.execute(sql.SQL(query).format(sql.Identifier(table))).fetchone()
    return int(row[0]) if row else 0
