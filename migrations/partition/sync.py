"""Phase sync: triggers on the old table mirror every write into the new one, or log its key."""

from __future__ import annotations

from dataclasses import replace

import psycopg
from psycopg import sql

from migrations.partition import bookkeeping, definitions
from migrations.partition.bookkeeping import Record
from migrations.partition.catalogue import Table, read_table
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import Refused
from migrations.partition.locks import in_short_transaction, month_class
from migrations.partition.names import Names
from migrations.partition.phases import Phase
from migrations.partition.plan import same_shape
from migrations.partition.prepare import drop_months
from migrations.partition.script import Executes
from migrations.partition.statements import OPERATIONS, names_list, template, touched_rows


def sync(engine: Engine) -> Outcome:
    """Create the triggers; writers are held up no longer than the lock timeout."""
    record = bookkeeping.required(engine.connection, engine.spec, Phase.SYNC)
    if record.phase.position >= Phase.SYNC.position:
        return Outcome("found", f"{engine.spec.table} is in step already (phase {record.phase})")
    old, _ = same_shape(engine, engine.names.table, engine.names.partitioned_name)

    def begin(connection: psycopg.Connection) -> None:
        begun = replace(record, generation=record.generation + 1)
        bookkeeping.update(connection, record.id, generation=begun.generation)
        create_forward_functions(engine, connection, begun, old)
        create_triggers(connection, engine.names, engine.names.live, "forward")
        bookkeeping.set_phase(connection, record.id, Phase.SYNC)

    in_short_transaction(engine, "sync", begin, table_id=record.id)
    return Outcome("done", f"every write to {engine.spec.table} is mirrored or logged from now on")


def key_columns(table: Table) -> list[str]:
    """Return the columns of the primary key."""
    primary_key = table.primary_key
    if primary_key is None:
        raise Refused(f"{table.schema}.{table.name} has no primary key any more")
    return primary_key.columns


def create_forward_functions(
    engine: Engine, connection: psycopg.Connection, record: Record, table: Table
) -> None:
    """Create the trigger functions that mirror the old table into the new one."""
    names = engine.names
    primary_key = names_list(key_columns(table))
    for operation in OPERATIONS:
        connection.execute(
            template(
                "sync_function",
                function=names.function("forward", operation),
                operation=sql.SQL(operation.upper()),  # pyright: ignore[reportArgumentType]
                key=engine.key,
                primary_key=primary_key,
                touched_rows=touched(operation, table, engine.spec.key),
                lock_class=sql.Literal(month_class(record.id)),
                table_id=sql.Literal(record.id),
                generation=sql.Literal(record.generation),
                schema=sql.Identifier(names.schema),
                partitioned=names.partitioned,
                live=names.live,
                log=names.log,
                columns=names_list(table.stored_columns),
            )
        )
    create_truncate_function(connection, names, "forward")


def touched(operation: str, table: Table, key: str) -> sql.Composable:
    """Return the query of touched row versions: primary key, key, is_new."""
    columns = key_columns(table)
    # The key may be part of the primary key already.
    others = [column for column in columns if column != key]
    return touched_rows(operation, names_list(others), sql.Identifier(key))


def create_truncate_function(connection: psycopg.Connection, names: Names, direction: str) -> None:
    """Create the trigger function that refuses TRUNCATE."""
    connection.execute(
        template("sync_refuse_truncate", function=names.function(direction, "truncate"))
    )


def create_triggers(
    connection: Executes, names: Names, relation: sql.Identifier, direction: str
) -> None:
    """Create the triggers of a direction on `relation`."""
    functions = {
        f"on_{operation}": names.function(direction, operation)
        for operation in (*OPERATIONS, "truncate")
    }
    connection.execute(template("sync_triggers", relation=relation, **functions))


def drop_triggers(connection: Executes, relation: sql.Identifier) -> None:
    """Drop the triggers of whichever direction."""
    connection.execute(template("drop_triggers", relation=relation))


def drop_functions(connection: Executes, names: Names) -> None:
    """Drop the functions of the triggers, of both directions."""
    for direction in ("forward", "reverse"):
        for operation in (*OPERATIONS, "truncate"):
            connection.execute(
                sql.SQL("DROP FUNCTION IF EXISTS {}()").format(names.function(direction, operation))
            )


def undo_sync(engine: Engine) -> Outcome:
    """Drop the triggers, and empty the new table, which nobody keeps in step any more."""
    record = bookkeeping.find(engine.connection, engine.spec)
    if record is None or record.phase.position < Phase.SYNC.position:
        return Outcome("found", f"{engine.spec.table} is not in step: nothing to undo")
    if record.phase is not Phase.SYNC:
        raise Refused(f"{engine.spec.table} is past sync: undo {record.phase} first")
    old = read_table(engine.connection, engine.names.schema, engine.names.table)
    if old is None:
        raise Refused(f"{engine.spec.table} is gone: somebody else renamed or dropped it")

    def end(connection: psycopg.Connection) -> None:
        names = engine.names
        drop_triggers(connection, names.live)
        drop_functions(connection, names)
        drop_months(connection, names, record.id)
        for month in bookkeeping.months(connection, record.id):
            definitions.create_month(engine, connection, old, month.month)
        connection.execute(
            "UPDATE partitioning.months SET state = 'pending', position = NULL, rows = 0,"
            " bytes = 0, seconds = 0, updated_at = now() WHERE table_id = %s",
            [record.id],
        )
        connection.execute(sql.SQL("TRUNCATE {}").format(names.log))
        bookkeeping.set_phase(connection, record.id, Phase.PREPARE, done=False)

    in_short_transaction(engine, "undo sync", end, table_id=record.id)
    return Outcome("done", f"dropped the triggers of {engine.spec.table}, and emptied the copy")
