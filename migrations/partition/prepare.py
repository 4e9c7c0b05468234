"""Phase prepare: the partitioned table, a table for each month, and the bookkeeping."""

from __future__ import annotations

import psycopg
from psycopg import sql

from migrations.partition import bookkeeping, definitions
from migrations.partition.catalogue import Table, grants_on
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import Refused
from migrations.partition.locks import in_short_transaction
from migrations.partition.names import Names
from migrations.partition.phases import Phase
from migrations.partition.plan import Plan, refuse_if_unsuitable
from migrations.partition.statements import template


def prepare(engine: Engine) -> Outcome:
    """Create everything, empty, in one transaction. Raises PlanRefused with all reasons not to."""
    record = bookkeeping.find(engine.connection, engine.spec)
    if record is not None:
        count = len(bookkeeping.months(engine.connection, record.id))
        return Outcome("found", f"{engine.spec.table} was prepared before", months=count)
    plan = refuse_if_unsuitable(engine)
    for warning in plan.warnings:
        engine.reporter.say(f"note: {warning}")
    in_short_transaction(engine, "prepare", lambda connection: _create(engine, connection, plan))
    return Outcome(
        "done",
        f"prepared {len(plan.months)} months of {engine.spec.table}",
        months=len(plan.months),
    )


def _create(engine: Engine, connection: psycopg.Connection, plan: Plan) -> None:
    names, table = engine.names, plan.table
    bookkeeping.create(connection)
    _show_progress(connection, table)
    primary_key = table.primary_key
    assert primary_key is not None  # noqa: S101 -- the plan refuses tables without
    types = {column.name: column.type for column in table.columns}
    connection.execute(
        template(
            "prepare_log",
            log=names.log,
            primary_key_definitions=sql.SQL(",\n    ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(types[name]))  # pyright: ignore[reportArgumentType]
                for name in primary_key.columns
            ),
        )
    )
    connection.execute(
        template("prepare_table", live=names.live, partitioned=names.partitioned, key=engine.key)
    )
    definitions.create_indexes(engine, connection, table, names.partitioned, None)
    # The table's own statistics, of all partitions together, have targets too.
    definitions.set_columns(connection, table, names.partitioned)
    if table.comment:
        connection.execute(
            sql.SQL("COMMENT ON TABLE {} IS {}").format(names.partitioned, table.comment)
        )
    if table.row_security:
        # Policies come at cutover; until then nobody but the owner sees a row of the copy.
        connection.execute(
            sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(names.partitioned)
        )
    present = grants_on(connection, names.partitioned)
    definitions.regrant(connection, table.grants, present, names.partitioned)
    for month in plan.months:
        definitions.create_month(engine, connection, table, month)
    if engine.spec.default_partition:
        _create_default(engine, connection, plan)
    row = connection.execute(
        "INSERT INTO partitioning.tables"
        " (table_name, phase, spec, log_name, default_name, rows_estimated, prepared_at)"
        " VALUES (%s, 'prepare', %s, %s, %s, %s, now()) RETURNING id",
        [
            engine.spec.table,
            engine.spec.model_dump_json(),
            names.log_name,
            names.default_name if engine.spec.default_partition else None,
            table.rows_estimated,
        ],
    ).fetchone()
    assert row is not None  # noqa: S101 -- RETURNING gives a row
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO partitioning.months (table_id, month, partition_name) VALUES (%s, %s, %s)",
            [(row[0], month, names.partition_name(month)) for month in plan.months],
        )


def _show_progress(connection: psycopg.Connection, table: Table) -> None:
    """Let who may read the whole table watch how far its partitioning is."""
    for reader in definitions.readers(table):
        if reader.column is None:
            name = sql.Identifier(reader.grantee) if reader.grantee else sql.SQL("PUBLIC")
            connection.execute(template("prepare_readers", reader=name))


def _create_default(engine: Engine, connection: psycopg.Connection, plan: Plan) -> None:
    names = engine.names
    partition = names.partition(names.default_name)
    connection.execute(
        sql.SQL("CREATE TABLE {} PARTITION OF {} DEFAULT{}").format(
            partition, names.partitioned, definitions.storage(plan.table)
        )
    )
    definitions.settle(connection, plan.table, partition)


def drop_months(connection: psycopg.Connection, names: Names, table_id: int) -> None:
    """Drop the tables of all months, attached or not, and forget a pass that loads them."""
    for month in bookkeeping.months(connection, table_id):
        connection.execute(
            sql.SQL("DROP TABLE IF EXISTS {}").format(names.partition(month.partition_name))
        )
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(names.loading))
    connection.execute("DELETE FROM partitioning.ranges WHERE table_id = %s", [table_id])


def undo_prepare(engine: Engine) -> Outcome:
    """Drop the new table and the bookkeeping. Raises Refused while a later phase stands."""
    record = bookkeeping.find(engine.connection, engine.spec)
    if record is None:
        return Outcome("found", f"{engine.spec.table} is not prepared: nothing to undo")
    if record.phase is not Phase.PREPARE:
        raise Refused(f"{engine.spec.table} is past prepare: undo {record.phase} first")

    def drop(connection: psycopg.Connection) -> None:
        names = engine.names
        drop_months(connection, names, record.id)
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(names.partitioned))
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(names.log))
        connection.execute("DELETE FROM partitioning.tables WHERE id = %s", [record.id])
        left = connection.execute("SELECT count(*) FROM partitioning.tables").fetchone()
        if left and not left[0]:
            connection.execute("DROP VIEW partitioning.progress")
            connection.execute("DROP FUNCTION partitioning.count_up_to_100000")
            connection.execute(
                "DROP TABLE partitioning.ranges, partitioning.months, partitioning.expired,"
                " partitioning.tables"
            )
            # Without CASCADE: what somebody else put into the schema is not ours to drop.
            connection.execute("DROP SCHEMA partitioning")

    in_short_transaction(engine, "undo prepare", drop, table_id=record.id)
    return Outcome("done", f"dropped the new table and the bookkeeping of {engine.spec.table}")
