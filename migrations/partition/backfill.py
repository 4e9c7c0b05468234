"""Phase backfill: load without indexes, then month by month index, attach, drain and go live.

Where an index finds the rows of a month it is loaded by itself, else all are in one pass (blocks).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import psycopg
from psycopg import sql

from migrations.partition import blocks, bookkeeping, calendar
from migrations.partition.bookkeeping import Month, Record
from migrations.partition.catalogue import Table
from migrations.partition.definitions import bounds, create_indexes
from migrations.partition.drain import Drain, add_missing_months, lock_month
from migrations.partition.engine import Engine, Outcome, in_parallel
from migrations.partition.errors import Refused
from migrations.partition.locks import NotYet, in_short_transaction
from migrations.partition.phases import Phase
from migrations.partition.plan import has_key_index, same_shape
from migrations.partition.progress import Progress
from migrations.partition.statements import names_list, template
from migrations.partition.sync import create_forward_functions, shorten
from migrations.partition.throttle import Throttle

SLICE_SECONDS = 1.0
"""How long a slice should take: what a kill costs at most."""
_FIRST_SLICE_ROWS = 50_000
_CORRELATED = 0.5
"""The correlation of key and place on disk from which on a month's rows lie together."""
SHORT = 500
"""Changes that are drained while writers of the month wait."""


@dataclass
class _Work:
    """What all workers share."""

    engine: Engine
    table: Table
    table_id: int
    generation: int
    drain: Drain
    throttle: Throttle
    """`wait` between pieces of work: while it is paused, or others need the server more."""
    progress: Progress
    sliced: bool
    """Whether an index finds the rows of a part of a month."""
    rows_a_month: int


def backfill(engine: Engine) -> Outcome:
    """Bring all months live, on `jobs` connections. Resumes where a killed run stopped."""
    connection = engine.connection
    record = bookkeeping.required(connection, engine.spec, Phase.BACKFILL)
    if record.phase.position > Phase.BACKFILL.position:
        rows = sum(month.rows for month in bookkeeping.months(connection, record.id))
        return Outcome("found", f"{engine.spec.table} is filled (phase {record.phase})", rows=rows)
    old, _ = same_shape(engine, engine.names.table, engine.names.partitioned_name)
    add_missing_months(engine, old, record.id, look_at_rows=True)
    months = bookkeeping.months(connection, record.id)
    todo = in_order(month for month in months if month.state != "live")
    if not todo and record.phase is Phase.BACKFILL:
        rows = sum(month.rows for month in months)
        return Outcome("found", f"all {len(months)} months are live", rows=rows, months=len(months))
    found = bookkeeping.rows_copied(connection, record.id)
    if not old.rows_estimated:
        connection.execute(sql.SQL("ANALYZE (SKIP_LOCKED) {}").format(engine.names.live))
        old, _ = same_shape(engine, engine.names.table, engine.names.partitioned_name)
    bookkeeping.update(connection, record.id, rows_estimated=old.rows_estimated)
    progress = Progress(engine.reporter, "backfill", old.rows_estimated, found)
    work = _Work(
        engine=engine,
        table=old,
        table_id=record.id,
        generation=record.generation,
        drain=Drain.of(engine, old),
        throttle=Throttle(engine, record.id),
        progress=progress,
        sliced=finds_months(engine, old),
        rows_a_month=max(1, old.rows_estimated // max(1, len(months))),
    )
    work.throttle.begin(connection)
    with connection.transaction():
        create_forward_functions(engine, connection, record, old)
    bring_live(work, todo)
    progress.finish()
    with connection.transaction():
        bookkeeping.note_copied(connection, record.id)
        bookkeeping.set_phase(connection, record.id, Phase.BACKFILL)
    shorten(engine, record, old)
    engine.reporter.say(progress.line())
    already = f"; {len(months) - len(todo)} were live before" if len(todo) < len(months) else ""
    return Outcome(
        "done",
        f"{len(todo)} months of {engine.spec.table} filled and live{already}",
        rows=progress.rows,
        rows_per_second=round(progress.rows_per_second, 1),
        seconds=round(progress.seconds, 3),
        months=len(months),
    )


def finds_months(engine: Engine, table: Table) -> bool:
    """Tell whether an index finds a month's rows, and finds them together on disk."""
    if not has_key_index(table, engine.spec.key):
        return False
    row = engine.connection.execute(
        "SELECT abs(correlation) FROM pg_stats"
        " WHERE schemaname = %s AND tablename = %s AND attname = %s",
        [table.schema, table.name, engine.spec.key],
    ).fetchone()
    return row is None or row[0] is None or row[0] >= _CORRELATED


def in_order(months: Iterable[Month]) -> list[Month]:
    """Return the months, those that are written to most first, so that the log stays short."""
    now = calendar.current_month()
    return sorted(months, key=lambda m: (m.month < now, abs((m.month - now).days)))


def bring_live(work: _Work, months: list[Month]) -> None:
    """Do the months on `jobs` connections; the first failure stops the others after their slice."""
    engine = work.engine
    blocks.load(
        engine,
        work.table,
        work.table_id,
        work.throttle,
        work.progress,
        pending=not work.sliced,
    )
    queue = list(reversed(months))
    jobs = max(1, min(engine.options.jobs, len(months)))

    def worker(_: int) -> None:
        with engine.session() as session:
            work.drain.ready(session)
            blocks.commit_lazily(session)
            if jobs > 1:
                # Several months are indexed at once instead.
                session.execute("SET max_parallel_maintenance_workers = 0")
            while queue and not engine.stopping.is_set():
                try:
                    month = queue.pop()
                except IndexError:
                    return
                bring_month_live(work, session, month.month, month.partition_name)
            engine.check_stop()

    in_parallel("backfill", jobs, worker, queue.clear)


def bring_month_live(
    work: _Work, session: psycopg.Connection, month: date, partition_name: str
) -> None:
    """Take one month from whatever state it is in to live."""
    partition = work.engine.names.partition(partition_name)
    started = time.monotonic()
    width = _first_width(work, month)
    work.throttle.wait(session)
    while (next_width := _load_slice(work, session, month, partition, width)) is not None:
        width = next_width
        work.throttle.wait(session)
    work.throttle.wait(session)
    _index(work, session, month, partition, partition_name)
    _attach(work, session, month, partition)
    _catch_up(work, session, month, partition)
    bookkeeping.update_month(
        session, work.table_id, month, seconds=round(time.monotonic() - started, 3)
    )


def _locked(work: _Work, session: psycopg.Connection, month: date) -> Month:
    """Return the month's row, locked: a killed run's session may not have ended yet."""
    row = session.execute(
        "SELECT month, partition_name, state, position, rows FROM partitioning.months"
        " WHERE table_id = %s AND month = %s FOR NO KEY UPDATE",
        [work.table_id, month],
    ).fetchone()
    assert row is not None  # noqa: S101 -- months are only ever added
    return Month(*row)


def _first_width(work: _Work, month: date) -> timedelta:
    """Return how much of a month the first slice takes."""
    whole = calendar.plus(month, 1) - month
    if not work.sliced:
        return whole
    return whole * min(1.0, _FIRST_SLICE_ROWS / work.rows_a_month)


def _load_slice(
    work: _Work,
    session: psycopg.Connection,
    month: date,
    partition: sql.Identifier,
    width: timedelta,
) -> timedelta | None:
    """Load the next slice, its position with it; return the next one's width, None at the end."""
    begin = datetime.combine(month, datetime.min.time())
    end = datetime.combine(calendar.plus(month, 1), datetime.min.time())

    def load(connection: psycopg.Connection) -> tuple[int, bool]:
        row = _locked(work, connection, month)
        if row.state not in ("pending", "loading"):
            return 0, False
        lower = row.position or begin
        upper = min(end, lower + width)
        loaded = connection.execute(
            template(
                "backfill_slice",
                partition=partition,
                columns=names_list(work.table.stored_columns),
                live=work.engine.names.live,
                key=work.engine.key,
                lower=sql.Literal(lower.isoformat(" ")),
                upper=sql.Literal(upper.isoformat(" ")),
            )
        ).rowcount
        bookkeeping.update_month(
            connection,
            work.table_id,
            month,
            state="loading" if upper < end else "indexing",
            position=upper,
            rows=row.rows + loaded,
        )
        return loaded, upper < end

    started = time.monotonic()
    rows, more = in_short_transaction(
        work.engine, f"load {month:%Y-%m}", load, connection=session, table_id=work.table_id
    )
    work.progress.advance(rows)
    if not more:
        return None
    # Towards the wanted duration, by no more than four times at once.
    factor = SLICE_SECONDS / max(time.monotonic() - started, 1e-3)
    return max(timedelta(seconds=1), width * min(4.0, max(0.25, factor)))


def _index(
    work: _Work,
    session: psycopg.Connection,
    month: date,
    partition: sql.Identifier,
    partition_name: str,
) -> None:
    def build(connection: psycopg.Connection) -> None:
        row = _locked(work, connection, month)
        if row.state != "indexing":
            return
        if row.position is None:
            work.drain.forget(connection, month, partition)
        create_indexes(work.engine, connection, work.table, partition, partition_name)
        # Creating an index counts the rows.
        found = connection.execute(
            "SELECT pg_total_relation_size(oid), greatest(reltuples, 0)::bigint FROM pg_class"
            " WHERE oid = %s::regclass",
            [partition.as_string()],
        ).fetchone()
        assert found is not None  # noqa: S101 -- it was indexed just now
        bookkeeping.update_month(
            connection,
            work.table_id,
            month,
            state="catching_up",
            bytes=found[0],
            rows=found[1] if row.position is None else row.rows,
        )

    in_short_transaction(
        work.engine, f"index {month:%Y-%m}", build, connection=session, table_id=work.table_id
    )


def _attach(
    work: _Work, session: psycopg.Connection, month: date, partition: sql.Identifier
) -> None:
    def attach(connection: psycopg.Connection) -> None:
        if _locked(work, connection, month).state != "catching_up":
            return
        attached = connection.execute(
            "SELECT relispartition FROM pg_class WHERE oid = %s::regclass", [partition.as_string()]
        ).fetchone()
        if attached and not attached[0]:
            connection.execute(
                template(
                    "backfill_attach",
                    partitioned=work.engine.names.partitioned,
                    partition=partition,
                    **bounds(month),
                )
            )

    in_short_transaction(
        work.engine, f"attach {month:%Y-%m}", attach, connection=session, table_id=work.table_id
    )


def _catch_up(
    work: _Work, session: psycopg.Connection, month: date, partition: sql.Identifier
) -> None:
    """Drain until little is left; then the rest while the month's writers wait, and go live."""

    def drain_some(connection: psycopg.Connection) -> int:
        if _locked(work, connection, month).state != "catching_up":
            return 0
        return work.drain.batch(connection, month, partition)

    def expect_few(connection: psycopg.Connection) -> None:
        if work.drain.pending(connection, month, 4 * SHORT) >= 4 * SHORT:
            raise NotYet("changes come in faster than they are drained", soon=True)

    def go_live(connection: psycopg.Connection) -> None:
        if _locked(work, connection, month).state != "catching_up":
            return
        expect_few(connection)
        lock_month(connection, work.table_id, month)
        expect_few(connection)
        work.drain.rest(connection, month, partition)
        bookkeeping.update_month(
            connection, work.table_id, month, state="live", generation=work.generation
        )

    def drain_nearly_all() -> None:
        while (
            in_short_transaction(
                work.engine,
                f"drain {month:%Y-%m}",
                drain_some,
                connection=session,
                table_id=work.table_id,
            )
            >= SHORT
        ):
            pass

    in_short_transaction(
        work.engine,
        f"bring {month:%Y-%m} live",
        go_live,
        connection=session,
        table_id=work.table_id,
        before=drain_nearly_all,
    )


def backfill_added(engine: Engine, table: Table, record: Record) -> int:
    """Bring months live that were added, or not reached, after backfill; return how many."""
    table_id = record.id
    add_missing_months(engine, table, table_id)
    months = bookkeeping.months(engine.connection, table_id)
    todo = in_order(month for month in months if month.state != "live")
    if todo:
        progress = Progress(engine.reporter, "new months", 0)
        drain = Drain.of(engine, table)
        throttle = Throttle(engine, table_id)
        sliced = finds_months(engine, table)
        work = _Work(
            engine, table, table_id, record.generation, drain, throttle, progress, sliced, 1
        )
        bring_live(work, todo)
        bookkeeping.note_copied(engine.connection, table_id)
    return len(todo)


def undo_backfill(engine: Engine) -> Outcome:
    """Keep what is loaded: as long as sync stands, live months stay in step."""
    record = bookkeeping.find(engine.connection, engine.spec)
    if record is None or record.phase.position < Phase.BACKFILL.position:
        return Outcome("found", f"{engine.spec.table} is not filled: nothing to undo")
    if record.phase is not Phase.BACKFILL:
        raise Refused(f"{engine.spec.table} is past backfill: undo {record.phase} first")
    with engine.connection.transaction():
        bookkeeping.set_phase(engine.connection, record.id, Phase.SYNC, done=False)
    return Outcome(
        "done",
        f"{engine.spec.table} counts as not filled; loaded months stay, kept in step by sync",
    )
