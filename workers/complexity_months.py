"""Summing months up: from their reviews to sums per actor and card, in tables of our own."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql

from workers import complexity_replica
from workers.complexity_definition import Definition
from workers.complexity_state import (
    MONTH_LOCK_CLASS,
    NUMBERS_LOCK,
    Source,
    begin_snapshot,
    definition_text,
    dirty_months,
    find_sources,
)
from workers.database import statement

# Cards whose sums are packed together, and merged at a time; another number, another SUMS_VERSION.
CARDS_PER_PART = 256
_EVERYBODY = sql.SQL("SELECT id FROM flashcards UNION SELECT id FROM actors")

# Reviews that are summed up by one statement, so that its hash table stays in memory.
ROWS_PER_STATEMENT = 250_000


# A number in a snapshot. Casts at once fail the statement where there is something else; looking
# first, and at the range too, takes a quarter longer in all, so that is left for then.
_HASTY = sql.SQL("({column} -> {key})::double precision")
_CAREFUL = sql.SQL(
    "CASE WHEN jsonb_typeof({column} -> {key}) = 'number' THEN"
    " CASE WHEN ({column} -> {key})::numeric BETWEEN 0 AND 1e30"
    " THEN round(({column} -> {key})::numeric, 60)::double precision END END"
)


@dataclass(frozen=True)
class Summed:
    """What summing months up did."""

    months: int
    read: int
    replica: bool
    seconds: float


def tune(connection: psycopg.Connection) -> None:
    """Set up the transaction for statements that sort and hash everything."""
    # Compiling queries that run once does not pay.
    connection.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")


def batches(months: dict[date, int], rows: int, nearest: bool = False) -> list[list[date]]:
    """Divide months, with their numbers of reviews, into batches of neighbours of up to `rows`.

    A month with more is a batch of its own. With `nearest`, a batch that comes closer to `rows`
    with one month more than without has it.
    """
    result: list[list[date]] = []
    filled = 0
    for month in sorted(months):
        allowed = rows + (months[month] // 2 if nearest else 0)
        if not result or filled + months[month] > allowed:
            result.append([])
            filled = 0
        result[-1].append(month)
        filled += months[month]
    return result


def even_batches(months: dict[date, int], rows: int, sessions: int) -> list[list[date]]:
    """Divide months the same way, and so that `sessions` share them evenly."""
    total = sum(months.values())
    rounds = math.ceil(total / (rows * sessions))
    return batches(months, math.ceil(total / max(1, rounds * sessions)), nearest=True)


def sum_months(
    connection: psycopg.Connection,
    definition: Definition,
    months: Iterable[date],
    replica_url: str | None = None,
) -> Summed:
    """Sum those of the months up that need it, all in one transaction.

    Cards and actors should have numbers; those that have none yet cost time.

    Whoever sums the same month at the same time is waited for, and not repeated.
    """
    started = time.perf_counter()
    wanted = sorted(months)
    with _month_locks(connection, wanted), connection.transaction():
        begin_snapshot(connection)
        tune(connection)
        sources = find_sources(connection)
        dirty = dirty_months(connection, sources, definition).keys() & set(wanted)
        read, replica = 0, False
        if dirty:
            read, replica = _sum(connection, definition, sorted(dirty), sources, replica_url)
    return Summed(len(dirty), read, replica, round(time.perf_counter() - started, 3))


@contextmanager
def _month_locks(connection: psycopg.Connection, months: list[date]) -> Generator[None]:
    """Hold the months, all in the same order; taken before the transaction has its snapshot."""
    held: list[int] = []
    try:
        for month in months:
            key = month.year * 12 + month.month
            connection.execute("SELECT pg_advisory_lock(%s, %s)", [MONTH_LOCK_CLASS, key])
            held.append(key)
        yield
    finally:
        # If the connection broke, the server has released them.
        if not connection.broken:
            for key in held:
                connection.execute("SELECT pg_advisory_unlock(%s, %s)", [MONTH_LOCK_CLASS, key])


def _sum(
    connection: psycopg.Connection,
    definition: Definition,
    months: list[date],
    sources: list[Source],
    replica_url: str | None,
) -> tuple[int, bool]:
    """Replace what is kept of the months; return the reviews read, and whether from the replica."""
    for table in ("review_changes", "complexity_months", "complexity_actors", "complexity_sums"):
        connection.execute(
            sql.SQL("DELETE FROM workers.{} WHERE month = ANY (%s::date[])").format(
                sql.Identifier(table)
            ),
            [months],
        )
    replica = False
    for careful in (False, True):
        query = sums_query(definition, months, careful)
        try:
            with connection.transaction():
                replica = complexity_replica.stage(connection, query, replica_url)
                staged = sql.SQL("SELECT * FROM complexity_stage")
                _store(connection, definition, staged if replica else query, sources)
            break
        except psycopg.DataError:
            if careful:
                raise
    row = connection.execute(
        "SELECT coalesce(sum(reviews), 0)::bigint FROM workers.complexity_months"
        " WHERE month = ANY (%s::date[])",
        [months],
    ).fetchone()
    assert row is not None  # noqa: S101 -- an aggregate always has a row
    return row[0], replica


def _store(
    connection: psycopg.Connection,
    definition: Definition,
    sums: sql.Composable,
    sources: list[Source],
) -> None:
    """Put the sums away that the query `sums` makes."""
    # Postgres cannot know how few parts there are, and would sort all pairs to pack them.
    connection.execute("SET LOCAL enable_sort = off")
    store = statement("complexity_store").format(
        sums=sums,
        definition=definition_text(definition),
        cards_per_part=CARDS_PER_PART,
        ids=[source.id for source in sources],
        states=[source.state for source in sources],
    )
    with connection.transaction() as savepoint:
        row = connection.execute(store).fetchone()
        if row == (0,):
            return
        raise psycopg.Rollback(savepoint)
    # Cards that came after the numbers were given out, or that are in no table of cards.
    _number(
        connection,
        sql.SQL(
            "SELECT flashcard_id AS id FROM ({sums}) AS sums"
            " UNION SELECT actor_id FROM ({sums}) AS sums"
        ).format(sums=sums),
        sql.SQL("ON CONFLICT DO NOTHING"),
    )
    connection.execute(store)


def number_everybody(connection: psycopg.Connection) -> None:
    """Give all cards and actors numbers; not within a transaction."""
    with connection.transaction():
        # What the statement after the lock sees is of after the lock.
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        _number(connection, _EVERYBODY, sql.SQL(""))


def _number(
    connection: psycopg.Connection, ids: sql.Composable, on_conflict: sql.Composable
) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [NUMBERS_LOCK])
    connection.execute(statement("complexity_number").format(ids=ids, on_conflict=on_conflict))


def sums_query(
    definition: Definition, months: list[date] | None = None, careful: bool = False
) -> sql.Composed:
    """Return the query of complexity_sums.sql for these months, or for all.

    It fails with a DataError where a snapshot has something else than a number, or one out of
    range, in the place of a number, unless it is the careful one.
    """
    value = _CAREFUL if careful else _HASTY
    previous, present = sql.Identifier("previousState"), sql.Identifier("state")
    return statement("complexity_sums").format(
        before=value.format(column=previous, key="stability"),
        after=value.format(column=present, key="stability"),
        retrievability=value.format(column=previous, key="retrievability"),
        weight_grade=_literal(definition.weight_grade),
        weight_stability=_literal(definition.weight_stability),
        weight_retrievability=_literal(definition.weight_retrievability),
        decay_per_day=_literal(definition.decay_per_day),
        months=_within(months) if months is not None else sql.SQL("isfinite(reviewed_at)"),
    )


def _literal(value: float) -> sql.Composed:
    return sql.SQL("{}::double precision").format(value)


def _within(months: list[date]) -> sql.Composed:
    """Return the condition that a review lies in one of the months, as few ranges of time.

    Ranges let Postgres leave partitions out, and use an index where there is one.
    """
    ranges: list[tuple[date, date]] = []
    for month in months:
        after = next_month(month)
        if ranges and ranges[-1][1] == month:
            ranges[-1] = (ranges[-1][0], after)
        else:
            ranges.append((month, after))
    return sql.SQL("({})").format(
        sql.SQL(" OR ").join(
            sql.SQL("reviewed_at >= {}::timestamp AND reviewed_at < {}::timestamp").format(
                first.isoformat(), after.isoformat()
            )
            for first, after in ranges
        )
    )


def next_month(month: date) -> date:
    """Return the first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)
