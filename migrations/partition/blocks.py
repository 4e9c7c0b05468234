"""Loading many months in one pass over the old table, by ranges of its blocks.

For tables without an index that finds the rows of a month: month by month each would read them all.

Every row that was there when sync began, and was not touched since, is where it was, and is loaded
once. Other rows may be loaded as they were for a moment, in several versions, or not at all; their
keys are in the change log, since no month goes live during the pass. What is loaded of them is
forgotten before the month is indexed, and draining brings them in as they are by then. A table that
is rewritten during the pass (VACUUM FULL, CLUSTER) moves its rows: the pass begins anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql

from migrations.partition import bookkeeping, calendar
from migrations.partition.bookkeeping import Month
from migrations.partition.catalogue import Table
from migrations.partition.definitions import bounds
from migrations.partition.engine import Engine, in_parallel
from migrations.partition.locks import in_short_transaction
from migrations.partition.progress import Progress
from migrations.partition.statements import names_list, template
from migrations.partition.throttle import Throttle

SLICE_SECONDS = 1.0
"""How long a slice should take: what a kill costs at most."""
_FIRST_SLICE_BLOCKS = 1_024
_LARGEST_RANGE_BLOCKS = 131_072
_RANGES_A_JOB = 16


class _RewrittenError(Exception):
    """The table was rewritten since the pass began: its blocks hold other rows."""


@dataclass(frozen=True)
class _Pass:
    """A pass over the table, begun in this run or in one that was killed."""

    engine: Engine
    table: Table
    table_id: int
    throttle: Throttle
    progress: Progress
    months: list[Month]
    """That are loaded."""


def load(
    engine: Engine,
    table: Table,
    table_id: int,
    throttle: Throttle,
    progress: Progress,
    *,
    pending: bool,
) -> None:
    """Finish the pass that a killed run left; with `pending`, load all months not yet begun."""

    def begun(connection: psycopg.Connection) -> list[Month]:
        return _begun(engine, connection, table_id, pending)

    while months := in_short_transaction(engine, "begin the load", begun, table_id=table_id):
        work = _Pass(engine, table, table_id, throttle, progress, months)
        try:
            _load(work)
        except _RewrittenError:
            engine.reporter.say(f"{engine.spec.table} was rewritten: its months are loaded anew")
            _in_transaction(work, _begin_anew)
        else:
            _in_transaction(work, _end)


def _in_transaction(work: _Pass, action: Callable[[_Pass, psycopg.Connection], None]) -> None:
    in_short_transaction(
        work.engine,
        "end the load",
        lambda connection: action(work, connection),
        table_id=work.table_id,
    )


def _begun(
    engine: Engine, connection: psycopg.Connection, table_id: int, pending: bool
) -> list[Month]:
    """Return the months of the pass under way, or of one that is begun here; empty if none."""
    months = bookkeeping.months(connection, table_id)
    under_way = connection.execute(
        "SELECT FROM partitioning.ranges WHERE table_id = %s LIMIT 1", [table_id]
    ).fetchone()
    if under_way is not None:
        return [month for month in months if month.state == "loading" and month.position is None]
    wanted = [month for month in months if pending and month.state == "pending"]
    if wanted:
        names = engine.names
        connection.execute(
            template(
                "backfill_blocks_begin",
                loading=names.loading,
                partitioned=names.partitioned,
                key=engine.key,
            )
        )
        for month in wanted:
            connection.execute(
                template(
                    "backfill_blocks_attach",
                    loading=names.loading,
                    partition=names.partition(month.partition_name),
                    **bounds(month.month),
                )
            )
            bookkeeping.update_month(connection, table_id, month.month, state="loading")
        _create_ranges(engine, connection, table_id)
    return wanted


def _create_ranges(engine: Engine, connection: psycopg.Connection, table_id: int) -> None:
    """Cut the table as it is now into ranges; rows behind its end are in the change log."""
    live = engine.names.live
    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(live))
    row = connection.execute(
        "SELECT pg_relation_filenode(%(table)s::regclass), pg_relation_size(%(table)s::regclass)"
        " / current_setting('block_size')::integer",
        {"table": live.as_string()},
    ).fetchone()
    assert row is not None  # noqa: S101 -- a query without FROM gives a row
    filenode, blocks = row[0], max(1, row[1])
    wanted = -(-blocks // (_RANGES_A_JOB * engine.options.jobs))
    step = min(_LARGEST_RANGE_BLOCKS, max(_FIRST_SLICE_BLOCKS, wanted))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO partitioning.ranges"
            " (table_id, first_block, next_block, end_block, filenode) VALUES (%s, %s, %s, %s, %s)",
            [
                (table_id, first, first, min(blocks, first + step), filenode)
                for first in range(0, blocks, step)
            ],
        )


def _load(work: _Pass) -> None:
    """Load what is left of all ranges, on `jobs` connections."""
    engine = work.engine
    ranges = deque(
        row[0]
        for row in engine.connection.execute(
            "SELECT first_block FROM partitioning.ranges"
            " WHERE table_id = %s AND next_block < end_block ORDER BY first_block",
            [work.table_id],
        )
    )

    def worker(number: int) -> None:
        with engine.session() as session:
            commit_lazily(session)
            width = _FIRST_SLICE_BLOCKS
            # From both ends: tables are written in the order of time, so that the connections
            # rarely load the same month.
            take = ranges.pop if number % 2 else ranges.popleft
            while True:
                try:
                    first_block = take()
                except IndexError:
                    return
                more = True
                while more:
                    work.throttle.wait(session)
                    started = time.monotonic()
                    more = _load_slice(work, session, first_block, width)
                    width = adapted(width, time.monotonic() - started)

    jobs = max(1, min(engine.options.jobs, len(ranges)))
    in_parallel("load", jobs, worker, ranges.clear)


def commit_lazily(session: psycopg.Connection) -> None:
    """Let commits of this session not wait for the disk.

    A crash of the server loses the last of them as a whole, rows and progress: they are done again.
    Nothing later is kept then, since the write-ahead log is kept in order.
    """
    session.execute("SET synchronous_commit = off")


def adapted(width: int, seconds: float) -> int:
    """Return the blocks of the next slice, towards the wanted duration, at most four times."""
    factor = SLICE_SECONDS / max(seconds, 1e-3)
    return max(1, int(width * min(4.0, max(0.25, factor))))


def _load_slice(work: _Pass, session: psycopg.Connection, first_block: int, width: int) -> bool:
    """Load the next slice of a range, the progress with it; tell whether something is left."""
    names = work.engine.names

    def load_slice(connection: psycopg.Connection) -> tuple[int, bool]:
        # Locked: a killed run's session may not have ended yet.
        row = connection.execute(
            "SELECT next_block, end_block, filenode FROM partitioning.ranges"
            " WHERE table_id = %s AND first_block = %s FOR NO KEY UPDATE",
            [work.table_id, first_block],
        ).fetchone()
        if row is None or row[0] >= row[1]:
            return 0, False
        lower, end, filenode = row
        upper = min(end, lower + width)
        loaded = connection.execute(
            template(
                "backfill_blocks_slice",
                loading=names.loading,
                columns=names_list(work.table.stored_columns),
                live=names.live,
                first=_block(lower),
                end=_block(upper),
                in_months=_in_months(work),
            )
        ).rowcount
        # The table is locked by now, so that it stays as it is.
        found = connection.execute(
            "SELECT pg_relation_filenode(%s::regclass)", [names.live.as_string()]
        ).fetchone()
        if found is None or found[0] != filenode:
            raise _RewrittenError
        connection.execute(
            "UPDATE partitioning.ranges SET next_block = %s, rows = rows + %s, updated_at = now()"
            " WHERE table_id = %s AND first_block = %s",
            [upper, loaded, work.table_id, first_block],
        )
        return loaded, upper < end

    rows, more = in_short_transaction(
        work.engine,
        f"load blocks from {first_block}",
        load_slice,
        connection=session,
        table_id=work.table_id,
    )
    work.progress.advance(rows)
    return more


def _block(number: int) -> sql.Composable:
    return sql.SQL("{}::tid").format(f"({number},0)")


def _in_months(work: _Pass) -> sql.Composable:
    """Return the condition that a row is of the months that are loaded."""
    runs: list[tuple[date, date]] = []
    for month in work.months:
        end = calendar.plus(month.month, 1)
        if runs and runs[-1][1] == month.month:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((month.month, end))
    return sql.SQL(" OR ").join(
        sql.SQL("{key} >= {lower} AND {key} < {upper}").format(
            key=work.engine.key,
            lower=sql.Literal(lower.isoformat()),
            upper=sql.Literal(upper.isoformat()),
        )
        for lower, upper in runs
    )


def _end(work: _Pass, connection: psycopg.Connection) -> None:
    """Let the months go on by themselves; how many rows each has is a guess until it is indexed."""
    names = work.engine.names
    row = connection.execute(
        "SELECT coalesce(sum(rows), 0) FROM partitioning.ranges WHERE table_id = %s",
        [work.table_id],
    ).fetchone()
    rows = int(row[0]) if row else 0
    sizes = {
        month.month: _size(connection, names.partition(month.partition_name))
        for month in work.months
    }
    total = sum(sizes.values())
    for month in work.months:
        connection.execute(
            template(
                "backfill_blocks_detach",
                loading=names.loading,
                partition=names.partition(month.partition_name),
            )
        )
        bookkeeping.update_month(
            connection,
            work.table_id,
            month.month,
            state="indexing",
            rows=round(rows * sizes[month.month] / total) if total else 0,
        )
    connection.execute(sql.SQL("DROP TABLE {}").format(names.loading))
    connection.execute("DELETE FROM partitioning.ranges WHERE table_id = %s", [work.table_id])


def _size(connection: psycopg.Connection, relation: sql.Identifier) -> int:
    row = connection.execute(
        "SELECT pg_relation_size(%s::regclass)", [relation.as_string()]
    ).fetchone()
    return int(row[0]) if row else 0


def _begin_anew(work: _Pass, connection: psycopg.Connection) -> None:
    """Empty the months, and cut the table as it is now."""
    connection.execute(sql.SQL("TRUNCATE {}").format(work.engine.names.loading))
    connection.execute("DELETE FROM partitioning.ranges WHERE table_id = %s", [work.table_id])
    _create_ranges(work.engine, connection, work.table_id)
