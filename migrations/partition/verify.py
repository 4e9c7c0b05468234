"""Phase verify: both tables compared row for row, by month, on one snapshot, while in use."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

import psycopg
from psycopg import sql

from migrations.partition import bookkeeping
from migrations.partition.backfill import backfill_added
from migrations.partition.catalogue import Table
from migrations.partition.definitions import bounds
from migrations.partition.drain import drain_live_months
from migrations.partition.engine import Engine, Outcome, in_parallel
from migrations.partition.errors import Refused
from migrations.partition.phases import Phase
from migrations.partition.plan import same_shape
from migrations.partition.progress import Progress
from migrations.partition.repair import repair
from migrations.partition.statements import names_list, template
from migrations.partition.statistics import analyze
from migrations.partition.sync import key_columns, shorten

BLOCKS = 16_384
"""Pages of a table fingerprinted in one statement: 128 MB."""
MOST_KEYS = 20
_REPAIRS = 3


@dataclass
class Side:
    """One of the two tables: rows and digest by month; the month is text, '' for none."""

    rows: dict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))
    digests: dict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))

    def add(self, found: Iterable[tuple[str | None, int, Decimal | None]]) -> int:
        """Add what one statement counted; return its rows."""
        total = 0
        for month, rows, digest in found:
            self.rows[month or ""] += rows
            self.digests[month or ""] += int(digest or 0)
            total += rows
        return total

    @property
    def digest(self) -> str:
        """The digest of the whole table: `sum(hash_record_extended(row, 0)::numeric)`."""
        return str(sum(self.digests.values()))


@dataclass(frozen=True)
class Comparison:
    """Both sides on one snapshot, and the keys that differ."""

    original: Side
    copy: Side
    differences: list[str]
    progress: Progress

    def outcome(self, message: str) -> Outcome:
        """Return this as the result of a phase."""
        return Outcome(
            "done",
            message,
            rows=sum(self.original.rows.values()),
            rows_per_second=round(self.progress.rows_per_second, 1),
            seconds=round(self.progress.seconds, 3),
            months=len(self.original.rows.keys() | self.copy.rows.keys()),
            verified=True,
            digest=self.original.digest,
        )


def verify(engine: Engine) -> Outcome:
    """Compare the tables. Raises Refused listing keys where they differ."""
    connection = engine.connection
    record = bookkeeping.required(connection, engine.spec, Phase.VERIFY)
    names = engine.names
    if record.phase is Phase.RETIRE:
        return Outcome(
            "found",
            f"{engine.spec.table} was verified, and its old table dropped",
            rows=record.verified_rows,
            verified=True,
            digest=record.verified_digest,
        )
    if record.phase is Phase.CUTOVER:
        old, new = same_shape(engine, names.retired_name, names.table)
    else:
        old, new = same_shape(engine, names.table, names.partitioned_name)
        backfill_added(engine, old, record)
        drain_live_months(engine, old, record.id)
    comparison = compare(engine, old, new)
    repaired = 0
    # Once more for what a writer with an old snapshot logs in between.
    for _ in range(_REPAIRS if engine.options.repair else 0):
        if not comparison.differences:
            break
        engine.reporter.say("\n".join(["repairing:", *comparison.differences]))
        months = _unequal_months(comparison.original, comparison.copy)
        repaired += repair(engine, record, old, new, months, hashed_columns(old))
        comparison = compare(engine, old, new)
    if comparison.differences:
        if record.phase is Phase.VERIFY:
            bookkeeping.set_phase(connection, record.id, Phase.BACKFILL, done=False)
        raise Refused(
            f"{old.schema}.{old.name} and {new.schema}.{new.name} differ:\n"
            + "\n".join(f"  {line}" for line in comparison.differences)
            + "\n`verify --repair` mends them; if that does not help, take backfill and sync back"
            " (undo), and fill again"
        )
    if record.phase is not Phase.CUTOVER:
        analyze(engine, new)
        shorten(engine, record, old)
    with connection.transaction():
        bookkeeping.update(
            connection,
            record.id,
            verified_rows=sum(comparison.original.rows.values()),
            verified_digest=comparison.original.digest,
        )
        if record.phase is not Phase.CUTOVER:
            bookkeeping.set_phase(connection, record.id, Phase.VERIFY)
    engine.reporter.say(comparison.progress.line())
    message = f"both tables of {engine.spec.table} hold the same rows"
    if repaired:
        message += f", {repaired:,} of them repaired"
    homeless = comparison.original.rows[""]
    if homeless:
        message += (
            f", except {homeless:,} without {engine.spec.key}: give them one, or delete them,"
            " before cutover"
        )
    return comparison.outcome(message)


def hashed_columns(table: Table) -> sql.Composable:
    """Return the columns by name, in the order of the old table; text where there is no hash."""
    return sql.SQL(", ").join(
        sql.Identifier(column.name)
        if column.is_hashable
        else sql.SQL("{}::text").format(sql.Identifier(column.name))
        for column in table.columns
    )


def compare(engine: Engine, old: Table, new: Table) -> Comparison:
    """Fingerprint both tables on one exported snapshot, `jobs` connections sharing the work."""
    original, copy = Side(), Side()
    with engine.session() as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        exported = holder.execute("SELECT pg_export_snapshot()").fetchone()
        snapshot = str(exported[0]) if exported else ""
        todo = deque(
            (side, relation, part)
            for side, relation, pages in _relations(holder, old, new, original, copy)
            for part in _ranges(pages)
        )
        progress = Progress(engine.reporter, "verify", 2 * old.rows_estimated)
        columns = hashed_columns(old)

        def worker(_: int) -> None:
            with engine.session() as session:
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
                while True:
                    engine.check_stop()
                    try:
                        side, relation, part = todo.popleft()
                    except IndexError:
                        return
                    found = session.execute(
                        template(
                            "verify_fingerprint",
                            key=engine.key,
                            hashed_columns=columns,
                            relation=relation,
                            range=part,
                        )
                    ).fetchall()
                    progress.advance(side.add(found))

        in_parallel("verify", engine.options.jobs, worker, todo.clear)
        progress.finish()
        differences = _differences(engine, holder, old, new, original, copy)
    return Comparison(original, copy, differences, progress)


def _relations(
    connection: psycopg.Connection, old: Table, new: Table, original: Side, copy: Side
) -> list[tuple[Side, sql.Composable, int]]:
    """Return the tables with storage on each side, with their pages."""
    rows = connection.execute(
        "SELECT c.oid = %(old)s, n.nspname, c.relname, pg_relation_size(c.oid)"
        " / current_setting('block_size')::integer"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.oid = %(old)s OR c.oid IN ("
        "SELECT relid FROM pg_partition_tree(%(new)s) WHERE isleaf)",
        {"old": old.oid, "new": new.oid},
    ).fetchall()
    return [
        (original if is_old else copy, sql.Identifier(schema, name), int(pages))
        for is_old, schema, name, pages in rows
    ]


def _ranges(pages: int) -> list[sql.Composable]:
    """Return conditions that cut a table into ranges of pages, the last one open."""
    starts = range(0, max(pages, 1), BLOCKS)
    parts: list[sql.Composable] = []
    for start in starts:
        condition = sql.SQL("ctid >= {}::tid").format(f"({start},0)")
        if start + BLOCKS < pages:
            condition = sql.SQL("{} AND ctid < {}::tid").format(condition, f"({start + BLOCKS},0)")
        parts.append(condition)
    return parts


def _unequal_months(original: Side, copy: Side) -> list[date]:
    """Return the months whose rows or digests differ.

    Not of rows without a month: cutover waits until there are none, and names them.
    """
    return [
        date.fromisoformat(month)
        for month in sorted(original.rows.keys() | copy.rows.keys())
        if len(month) == len("2026-01-01")
        and (
            original.rows[month] != copy.rows[month]
            or original.digests[month] != copy.digests[month]
        )
    ]


def _differences(
    engine: Engine,
    holder: psycopg.Connection,
    old: Table,
    new: Table,
    original: Side,
    copy: Side,
) -> list[str]:
    """List keys that differ, on the same snapshot, except where the log still knows of them."""
    lines: list[str] = []
    for first in _unequal_months(original, copy):
        month = first.isoformat()
        columns = key_columns(old)
        found = holder.execute(
            template(
                "verify_differences",
                either_key=names_list(columns),
                primary_key=names_list(columns),
                hashed_columns=hashed_columns(old),
                key=engine.key,
                original=sql.Identifier(old.schema, old.name),
                copy=sql.Identifier(new.schema, new.name),
                log=engine.names.log,
                limit=sql.Literal(MOST_KEYS),
                **bounds(first),
            )
        ).fetchall()
        if found:
            lines.append(f"{month[:7]}: {original.rows[month]:,} rows against {copy.rows[month]:,}")
            lines += [f"  {key}: {what}" for key, what in found]
    return lines


def undo_verify(engine: Engine) -> Outcome:
    """Verification changed nothing; only the phase goes back."""
    record = bookkeeping.find(engine.connection, engine.spec)
    if record is None or record.phase.position < Phase.VERIFY.position:
        return Outcome("found", f"{engine.spec.table} is not verified: nothing to undo")
    if record.phase is not Phase.VERIFY:
        raise Refused(f"{engine.spec.table} is past verify: undo {record.phase} first")
    with engine.connection.transaction():
        bookkeeping.set_phase(engine.connection, record.id, Phase.BACKFILL, done=False)
    return Outcome("done", f"{engine.spec.table} counts as not verified")
