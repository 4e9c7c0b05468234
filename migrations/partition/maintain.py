"""Maintenance, from cron: months ahead, retention, and what fell into the default partition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date

import psycopg
from psycopg import sql

from migrations.partition import bookkeeping, calendar, definitions, descriptors
from migrations.partition.backfill import backfill_added
from migrations.partition.bookkeeping import Record
from migrations.partition.catalogue import Table, read_table
from migrations.partition.cutover import finish_foreign_keys
from migrations.partition.drain import add_missing_months
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import Refused
from migrations.partition.expiry import expire, first_kept
from migrations.partition.locks import in_short_transaction
from migrations.partition.partitions import Partition, partitions
from migrations.partition.phases import Phase
from migrations.partition.statements import names_list, template

_PATIENCE_SECONDS = 30.0
"""How long to wait for the transactions that may know less partitions than there are."""


@dataclass
class _Report:
    """What was done, for the operator."""

    created: list[date] = field(default_factory=list[date])
    moved_rows: int = 0
    archived: list[str] = field(default_factory=list[str])
    dropped: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    def outcome(self, table: str, ahead: int) -> Outcome:
        """Return it as a result. Raises Refused, with what was done, if problems are left."""
        parts: list[str] = []
        if self.created:
            parts.append("new: " + ", ".join(f"{month:%Y-%m}" for month in self.created))
        if self.moved_rows:
            parts.append(f"{self.moved_rows:,} rows moved out of the default partition")
        if self.archived:
            parts.append("archived: " + ", ".join(self.archived))
        if self.dropped:
            parts.append("dropped: " + ", ".join(self.dropped))
        done = "; ".join(parts) or "nothing to do"
        message = "\n  ".join([f"{table}: {done}; {ahead} months ahead", *self.notes])
        if self.problems:
            raise Refused("\n  ".join([message, *self.problems]))
        return Outcome(
            "done" if parts else "found",
            message,
            details={
                "created": [f"{month:%Y-%m}" for month in self.created],
                "moved_rows": self.moved_rows,
                "archived": self.archived,
                "dropped": self.dropped,
                "months_ahead": ahead,
            },
        )


def maintain(engine: Engine) -> Outcome:
    """Do what is due, in any phase; nothing, and say so, if nothing is. Safe to repeat.

    Raises Refused if something is left that wants an operator, after all else was done.
    """
    record = bookkeeping.begun(engine.connection, engine.spec)
    report = _Report()
    if record.phase.position < Phase.CUTOVER.position:
        _before_cutover(engine, record, report)
        ahead = _months_ahead([m.month for m in bookkeeping.months(engine.connection, record.id)])
    else:
        table = _partitioned(engine)
        _after_cutover(engine, record, table, report)
        ahead = _months_ahead(
            [found.month for found in partitions(engine.connection, table.oid) if found.month]
        )
    return report.outcome(engine.spec.table, ahead)


def _months_ahead(months: list[date]) -> int:
    """Return how many months after the current one there are without a gap."""
    now = calendar.current_month()
    ahead = 0
    while calendar.plus(now, ahead + 1) in months:
        ahead += 1
    return ahead


def _partitioned(engine: Engine) -> Table:
    table = read_table(engine.connection, engine.names.schema, engine.names.table)
    if table is None or table.kind != "p":
        raise Refused(f"{engine.spec.table} is not the partitioned table: somebody renamed it")
    return table


def _before_cutover(engine: Engine, record: Record, report: _Report) -> None:
    """Add months to the copy; those of a table that is filled already go live at once."""
    old = read_table(engine.connection, engine.names.schema, engine.names.table)
    if old is None:
        raise Refused(f"{engine.spec.table} is gone: somebody else renamed or dropped it")
    before = {month.month for month in bookkeeping.months(engine.connection, record.id)}
    if record.phase.position < Phase.BACKFILL.position:
        add_missing_months(engine, old, record.id)
    else:
        backfill_added(engine, old, record)
    after = {month.month for month in bookkeeping.months(engine.connection, record.id)}
    report.created = sorted(after - before)
    _note_retention(engine, report, "cutover and retire")


def _note_retention(engine: Engine, report: _Report, phases: str) -> None:
    if engine.spec.retention is not None:
        report.notes.append(
            f"retention begins after {phases}: until then both tables keep every row, so that"
            " rollback loses nothing"
        )


def _after_cutover(engine: Engine, record: Record, table: Table, report: _Report) -> None:
    if finish_foreign_keys(engine, record):
        table = _partitioned(engine)
    _reconcile(engine, record, table, report)
    if record.phase is Phase.RETIRE:
        for expired in expire(engine, record, table.oid):
            gone = report.archived if expired.fate == "archive" else report.dropped
            gone.append(expired.partition_name)
    else:
        _note_retention(engine, report, "retire")
    found = partitions(engine.connection, table.oid)
    default = next((partition for partition in found if partition.is_default), None)
    now = calendar.current_month()
    wanted = {
        month
        for month in calendar.through(now, calendar.plus(now, engine.spec.ahead))
        if not any(partition.covers(month) for partition in found)
    }
    if default:
        wanted |= _months_to_move(engine, record, default, report)
    for month in sorted(wanted):
        moved = _add_month(engine, record, table, found, default, month, report)
        if moved is not None:
            report.created.append(month)
            report.moved_rows += moved
    if report.created:
        left = descriptors.refresh(engine, engine.names.live, record.id, _PATIENCE_SECONDS)
        if left:
            report.notes.append(
                "sessions that may not know the new months before their transactions end, and the"
                f" next months come: pids {', '.join(map(str, left))}"
            )


def _reconcile(engine: Engine, record: Record, table: Table, report: _Report) -> None:
    """Let the bookkeeping know what was made, or dropped, by hand."""
    connection = engine.connection
    found = partitions(connection, table.oid)
    attached = {partition.month: partition for partition in found if partition.month}
    known = {month.month: month for month in bookkeeping.months(connection, record.id)}
    with connection.transaction():
        for month, partition in attached.items():
            if month not in known and not partition.is_detaching:
                _record_month(connection, record, month, partition.name)
        for month in known.keys() - attached.keys():
            if any(partition.covers(month) for partition in found):
                continue
            report.notes.append(f"{known[month].partition_name} is no longer there")
            if record.phase is Phase.RETIRE:
                connection.execute(
                    "DELETE FROM partitioning.months WHERE table_id = %s AND month = %s",
                    [record.id, month],
                )
        default = next((partition.name for partition in found if partition.is_default), None)
        if default != record.default_name:
            bookkeeping.update(connection, record.id, default_name=default)


def _record_month(connection: psycopg.Connection, record: Record, month: date, name: str) -> None:
    connection.execute(
        "INSERT INTO partitioning.months (table_id, month, partition_name, state, generation)"
        " VALUES (%(id)s, %(month)s, %(name)s, 'live', %(generation)s)"
        " ON CONFLICT (table_id, month) DO UPDATE SET partition_name = %(name)s",
        {"id": record.id, "month": month, "name": name, "generation": record.generation},
    )


def _months_to_move(
    engine: Engine, record: Record, default: Partition, report: _Report
) -> set[date]:
    """Return the months of rows in the default partition that should have one of their own."""
    rows = engine.connection.execute(
        sql.SQL(
            "SELECT date_trunc('month', {key})::date::text, count(*) FROM {partition} GROUP BY 1"
        ).format(key=engine.key, partition=sql.Identifier(default.schema, default.name))
    ).fetchall()
    earliest = calendar.EARLIEST
    if record.phase is Phase.RETIRE:
        earliest = max(earliest, first_kept(engine) or earliest)
    months: set[date] = set()
    for text, count in rows:
        month = date.fromisoformat(text) if text and len(text) == len("2026-01-01") else None
        if month and earliest <= month <= calendar.latest_sane(engine.spec.ahead):
            months.add(month)
        else:
            report.notes.append(
                f"{count:,} rows in {default.name} are of {(text or 'no month')[:7]}, outside"
                f" {earliest:%Y-%m} through {calendar.latest_sane(engine.spec.ahead):%Y-%m}:"
                f" correct their {engine.spec.key}, or delete them"
            )
    return months


def _add_month(
    engine: Engine,
    record: Record,
    table: Table,
    found: list[Partition],
    default: Partition | None,
    month: date,
    report: _Report,
) -> int | None:
    """Make a month's partition like its siblings; return the rows moved into it.

    None, and a problem in the report, if more lie in the default partition than may be moved at
    once.
    """
    names = engine.names
    name = names.partition_name(month)
    partition = names.partition(name)
    like = _sibling(engine, table, found)
    taken = engine.connection.execute("SELECT to_regclass(%s)", [partition.as_string()]).fetchone()
    if taken and taken[0]:
        report.problems.append(
            f"{names.schema}.{name} exists and is no partition of {engine.spec.table}: attach it,"
            " or rename or drop it"
        )
        return None

    def add(session: psycopg.Connection) -> int | None:
        rows = 0
        if default:
            # Writers wait at the table itself: one who had chosen the default partition already
            # would fail there, once the month has another place.
            session.execute(
                template("cutover_lock", relation=names.live, mode=sql.SQL("SHARE ROW EXCLUSIVE"))
            )
            relation = sql.Identifier(default.schema, default.name)
            session.execute(
                template("cutover_lock", relation=relation, mode=sql.SQL("ACCESS EXCLUSIVE"))
            )
            if _too_many(engine, session, relation, month):
                return None
        definitions.create_month(engine, session, like, month, parent=names.live)
        if default:
            rows = _move(session, engine, table, default, partition, month)
        definitions.create_indexes(engine, session, table, partition, name)
        session.execute(
            template(
                "backfill_attach",
                partitioned=names.live,
                partition=partition,
                **definitions.bounds(month),
            )
        )
        _record_month(session, record, month, name)
        return rows

    moved = in_short_transaction(engine, f"partition {name}", add, table_id=record.id)
    if moved is None:
        assert default is not None  # noqa: S101 -- only rows of a default partition are counted
        report.problems.append(
            f"{default.name} has more than {engine.options.most_rows:,} rows of {month:%Y-%m}:"
            " moving them would hold up the table; do it at a quiet hour with a greater"
            " --most-rows"
        )
    return moved


def _sibling(engine: Engine, table: Table, found: list[Partition]) -> Table:
    """Return the table whose storage settings a new partition takes over: the newest month's."""
    months = [partition for partition in found if partition.month and not partition.is_detaching]
    if months:
        newest = max(months, key=lambda partition: partition.month or calendar.EARLIEST)
        sibling = read_table(engine.connection, newest.schema, newest.name)
        if sibling is not None:
            # Who may read it is the table's affair.
            return replace(sibling, grants=table.grants, row_security=table.row_security)
    return table


def _too_many(
    engine: Engine, session: psycopg.Connection, default: sql.Identifier, month: date
) -> bool:
    most = engine.options.most_rows
    row = session.execute(
        sql.SQL(
            "SELECT count(*) FROM (SELECT FROM {} WHERE {} >= {lower} AND {} < {upper}"
            " LIMIT {}) AS few"
        ).format(default, engine.key, engine.key, most + 1, **definitions.bounds(month))
    ).fetchone()
    return bool(row and row[0] > most)


def _move(
    session: psycopg.Connection,
    engine: Engine,
    table: Table,
    default: Partition,
    partition: sql.Identifier,
    month: date,
) -> int:
    """Move a month's rows; to the application, and to its triggers, nothing happens."""
    relation = sql.Identifier(default.schema, default.name)
    here = read_table(session, default.schema, default.name)
    enabled = [trigger for trigger in here.triggers if trigger.enabled != "D"] if here else []
    for trigger in enabled:
        definitions.alter_trigger(session, relation, "D", trigger.name)
    moved = session.execute(
        template(
            "maintain_move",
            default_partition=relation,
            partition=partition,
            key=engine.key,
            columns=names_list(table.stored_columns),
            **definitions.bounds(month),
        )
    ).rowcount
    for trigger in enabled:
        definitions.alter_trigger(session, relation, trigger.enabled, trigger.name)
    return moved
