"""Rows into the database: all of them in one transaction, and only where there are none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql

from history.digest import review_digest
from history.progress import Reporter
from history.rows import Rows
from history.sources import HistoryError
from history.tables import analyze, count, require_tables, tables_with_rows

# Arbitrary, but the same for ever: everybody who takes the lock must mean the same one.
LOAD_LOCK = 7_305_112_003


@dataclass(frozen=True)
class Outcome:
    """What the tables hold now."""

    outcome: Literal["loaded", "kept"]
    """Whether the history was loaded, or there were rows already and nothing was changed."""
    message: str
    rows: int
    """Reviews."""
    rows_per_second: float
    """Reviews loaded a second; 0 if none were."""
    seconds: float
    actors: int
    flashcards: int
    nodes: int
    edges: int
    digest: str
    """See `history.digest`."""


def load(connection: psycopg.Connection, rows: Iterator[Rows], reporter: Reporter) -> Outcome:
    """Store `rows`, whose parents come before their children, unless any of the tables has rows.

    `connection` is in autocommit. Nothing is taken from `rows` before it is known that they are
    wanted. Only one load runs at a time in a database; a second one waits, and then finds the rows.

    Raises HistoryError if tables, columns or partitions are missing, psycopg.Error if the server
    refuses or vanishes; the tables are empty then, as they are if the process is killed.
    """
    begun = time.monotonic()
    with connection.transaction():
        # The transaction is idle while rows are computed, and long for a long history.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute("SET LOCAL statement_timeout = 0")
        require_tables(connection)
        _wait_for_lock(connection, reporter)
        if held := tables_with_rows(connection):
            return _outcome(connection, "kept", begun, held)
        _copy(connection, rows, reporter)
        analyze(connection)
        return _outcome(connection, "loaded", begun)


def _wait_for_lock(connection: psycopg.Connection, reporter: Reporter) -> None:
    taken = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOAD_LOCK]).fetchone()
    if taken is None or not taken[0]:
        reporter.say("another load is running in this database: waiting for it to end")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOAD_LOCK])


def _copy(connection: psycopg.Connection, rows: Iterator[Rows], reporter: Reporter) -> None:
    with connection.cursor() as cursor:
        for part in rows:
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(part.table), sql.SQL(", ").join(map(sql.Identifier, part.columns))
            )
            try:
                with cursor.copy(statement) as copy:
                    copy.write("\n".join(part.lines) + "\n")
            except psycopg.errors.CheckViolation as error:
                raise HistoryError(_homeless(part.table, error)) from None
            if part.table == "review_logs":
                reporter.advance(len(part.lines))


def _homeless(table: str, error: psycopg.Error) -> str:
    detail = " ".join(filter(None, [error.diag.message_primary, error.diag.message_detail]))
    return (
        f"{table}: a row is refused ({detail}). If the table is partitioned, make the months of "
        "the history first, or load a shorter one. Nothing was changed"
    )


def _outcome(
    connection: psycopg.Connection,
    outcome: Literal["loaded", "kept"],
    begun: float,
    held: Sequence[str] = (),
) -> Outcome:
    digest = review_digest(connection)
    others = ("actors", "flashcards", "nodes", "edges")
    counts = {table: count(connection, table) for table in others}
    seconds = time.monotonic() - begun
    size = ", ".join(f"{number:,} {table}" for table, number in counts.items())
    size = f"{digest.rows:,} reviews, {size}"
    if outcome == "loaded":
        rate = digest.rows / seconds
        message = f"loaded {size} in {seconds:.1f} s ({rate:,.0f} reviews/s)"
    else:
        rate = 0.0
        message = f"kept {size}: rows already in {', '.join(held)}, nothing was changed"
    return Outcome(
        outcome=outcome,
        message=message,
        rows=digest.rows,
        rows_per_second=round(rate, 1),
        seconds=round(seconds, 3),
        digest=digest.digest,
        **counts,
    )
