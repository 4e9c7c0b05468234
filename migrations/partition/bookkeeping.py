"""The schema `partitioning`: how far each table and month is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from migrations.partition.errors import Refused
from migrations.partition.names import SCHEMA
from migrations.partition.phases import Phase
from migrations.partition.spec import Spec
from migrations.partition.statements import raw, text

_CREATION_LOCK = 7_305_112_101

_TIMESTAMPS = {
    Phase.PREPARE: "prepared_at",
    Phase.SYNC: "synced_at",
    Phase.BACKFILL: "backfilled_at",
    Phase.VERIFY: "verified_at",
    Phase.CUTOVER: "cut_over_at",
    Phase.RETIRE: "retired_at",
}


@dataclass(frozen=True)
class Record:
    """The row of a table; `phase` is the last one done."""

    id: int
    phase: Phase
    generation: int
    default_name: str | None
    rows_estimated: int
    copied_at: datetime | None
    verified_rows: int | None
    verified_digest: str | None
    cut_over_at: datetime | None
    foreign_keys: list[dict[str, Any]] | None
    foreign_keys_validated: bool
    retired_at: datetime | None
    # Absent from the bookkeeping of earlier versions, until `upgrade`.
    paused_at: datetime | None = None
    paused_by: str | None = None
    waiting_for: str | None = None
    waiting_since: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "phase", Phase(self.phase))


@dataclass(frozen=True)
class Month:
    """The row of a month."""

    month: date
    partition_name: str
    state: str
    position: datetime | None
    rows: int


def exists(connection: psycopg.Connection) -> bool:
    """Tell whether the schema is there. Raises Refused where it is, but not open to this role."""
    # Not by to_regclass, which fails where the schema may not be used.
    row = connection.execute(
        "SELECT current_user, has_schema_privilege(n.oid, 'USAGE')"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = 'months'",
        [SCHEMA],
    ).fetchone()
    if row and not row[1]:
        raise Refused(
            f"role {row[0]} may not use the schema {SCHEMA}: connect as the role that prepared, or"
            f" GRANT it ALL ON SCHEMA {SCHEMA}, and on all tables in it"
        )
    return row is not None


def create(connection: psycopg.Connection) -> None:
    """Create the schema where it is missing; call it in a transaction."""
    # IF NOT EXISTS alone does not keep two sessions from creating the same at once.
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATION_LOCK])
    connection.execute(raw(text("bookkeeping")))


def upgrade(connection: psycopg.Connection) -> None:
    """Add what an earlier version's schema lacks; call it in a transaction."""
    row = connection.execute(
        "SELECT to_regclass('partitioning.months') IS NOT NULL"
        " AND (to_regclass('partitioning.expired') IS NULL"
        " OR to_regclass('partitioning.ranges') IS NULL)"
    ).fetchone()
    if row and row[0]:
        create(connection)


def find(connection: psycopg.Connection, spec: Spec) -> Record | None:
    """Return the row of the spec's table, None if its partitioning has not begun."""
    if not exists(connection):
        return None
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "SELECT * FROM partitioning.tables WHERE table_name = %s", [spec.table]
        ).fetchone()
    known = {field.name for field in fields(Record)}
    return Record(**{name: row[name] for name in row if name in known}) if row else None


def begun(connection: psycopg.Connection, spec: Spec) -> Record:
    """Return the row of the spec's table. Raises Refused if its partitioning has not begun."""
    record = find(connection, spec)
    if record is None:
        raise Refused(f"the partitioning of {spec.table} has not begun: run plan, then prepare")
    return record


def required(connection: psycopg.Connection, spec: Spec, phase: Phase) -> Record:
    """Return the row if the predecessor of `phase` is done. Raises Refused naming what to run."""
    record = find(connection, spec)
    predecessor = phase.predecessor
    assert predecessor is not None  # noqa: S101 -- prepare asks for nothing
    if record is None or record.phase.position < predecessor.position:
        missing = list(Phase)[record.phase.position + 1] if record else Phase.PREPARE
        raise Refused(
            f"{phase} of {spec.table} comes after {predecessor}: run {missing} first"
            + (f" (done so far: {record.phase})" if record else "")
        )
    return record


def months(connection: psycopg.Connection, table_id: int) -> list[Month]:
    """Return the months of a table in order."""
    with connection.cursor(row_factory=class_row(Month)) as cursor:
        return cursor.execute(
            "SELECT month, partition_name, state, position, rows FROM partitioning.months"
            " WHERE table_id = %s ORDER BY month",
            [table_id],
        ).fetchall()


def set_phase(
    connection: psycopg.Connection, table_id: int, phase: Phase, done: bool = True
) -> None:
    """Note the last phase done; with `done` also when."""
    values: dict[str, Any] = {"phase": phase.value}
    if done:
        values[_TIMESTAMPS[phase]] = datetime.now(UTC)
    update(connection, table_id, **values)


def update(connection: psycopg.Connection, table_id: int, **values: Any) -> None:
    """Set columns of the table's row."""
    assignments = ", ".join(f"{column} = %({column})s" for column in values)
    connection.execute(
        raw(f"UPDATE {SCHEMA}.tables SET {assignments}, updated_at = now() WHERE id = %(id)s"),  # noqa: S608
        {**values, "id": table_id},
    )


def note_copied(connection: psycopg.Connection, table_id: int) -> None:
    """Note that rows are being put into the new table now: older snapshots will not see them."""
    connection.execute(
        "UPDATE partitioning.tables SET copied_at = clock_timestamp() WHERE id = %s", [table_id]
    )


def note_waiting(connection: psycopg.Connection, table_id: int, reason: str | None) -> None:
    """Note what a run is waiting for, None for nothing."""
    connection.execute(
        "UPDATE partitioning.tables SET waiting_for = %(reason)s,"
        " waiting_since = CASE WHEN %(reason)s::text IS NOT NULL"
        " THEN coalesce(waiting_since, now()) END WHERE id = %(id)s",
        {"reason": reason, "id": table_id},
    )


def update_month(connection: psycopg.Connection, table_id: int, month: date, **values: Any) -> None:
    """Set columns of a month's row."""
    assignments = ", ".join(f"{column} = %({column})s" for column in values)
    connection.execute(
        raw(
            f"UPDATE {SCHEMA}.months SET {assignments}, updated_at = now()"  # noqa: S608 -- our own column names
            " WHERE table_id = %(table_id)s AND month = %(of_month)s"
        ),
        {**values, "table_id": table_id, "of_month": month},
    )


def rows_copied(connection: psycopg.Connection, table_id: int) -> int:
    """Return how many rows are loaded, those of an unfinished pass included."""
    row = connection.execute(
        "SELECT rows_copied FROM partitioning.progress AS p"
        " JOIN partitioning.tables AS t USING (table_name) WHERE t.id = %s",
        [table_id],
    ).fetchone()
    return row[0] if row else 0
