"""Phase sync: triggers on the old table mirror every write into the new one, or log its key."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import psycopg
from psycopg import sql

from migrations.partition import bookkeeping, calendar, definitions, descriptors
from migrations.partition.bookkeeping import Month, Record
from migrations.partition.catalogue import Table, read_table
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import LockStarved, Refused
from migrations.partition.locks import in_short_transaction, month_class
from migrations.partition.mirror import row_first, rows_first
from migrations.partition.names import Names
from migrations.partition.phases import Phase
from migrations.partition.plan import same_shape
from migrations.partition.prepare import drop_months
from migrations.partition.script import Executes
from migrations.partition.statements import (
    ALWAYS,
    NEVER,
    OPERATIONS,
    function_settings,
    in_place,
    in_place_condition,
    names_list,
    template,
    touched_rows,
)

_PATIENCE_SECONDS = 1.0

_OLD_SNAPSHOTS = """
SELECT pg_has_role('pg_read_all_stats', 'USAGE') AND NOT EXISTS (
    SELECT FROM pg_stat_activity AS a, partitioning.tables AS t
    WHERE t.id = %s AND a.datname = current_database() AND a.backend_type = 'client backend'
        AND a.pid <> pg_backend_pid() AND a.backend_xmin IS NOT NULL
        AND a.xact_start <= t.copied_at)
"""


def sync(engine: Engine) -> Outcome:
    """Create the triggers; writers are held up no longer than the lock timeout."""
    record = bookkeeping.required(engine.connection, engine.spec, Phase.SYNC)
    if record.phase.position >= Phase.SYNC.position:
        return Outcome("found", f"{engine.spec.table} is in step already (phase {record.phase})")
    old, _ = same_shape(engine, engine.names.table, engine.names.partitioned_name)

    def begin(connection: psycopg.Connection) -> None:
        begun = replace(record, generation=record.generation + 1)
        bookkeeping.update(connection, record.id, generation=begun.generation)
        create_forward_functions(engine, connection, begun, old, "none")
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
    engine: Engine,
    connection: psycopg.Connection,
    record: Record,
    table: Table,
    live: Literal["none", "some"] | list[Month] = "some",
) -> None:
    """Create the trigger functions that mirror the old table into the new one.

    `live` is what every writer may know of the months: that none is live, or all of these, which
    follow each other. With `some` each statement looks.
    """
    names = engine.names
    unique = _whole_key(table, engine.spec.key)
    assigned = assigned_columns(table, unique)
    lock_class = sql.Literal(month_class(record.id))
    for operation in OPERATIONS:
        parts: dict[str, sql.Composable] = {
            "function": names.function("forward", operation),
            "operation": sql.SQL(operation.upper()),  # pyright: ignore[reportArgumentType]
            "settings": function_settings(
                has_time_zone(table, engine.spec.key), operation == "delete"
            ),
            "key": engine.key,
            "primary_key": names_list(key_columns(table)),
            "copy": names.partitioned,
            "unique": names_list(unique),
            "touched_rows": touched(operation, table, engine.spec.key),
            "is_in_place": is_in_place(operation, table, unique),
            "lock_class": lock_class,
            "locked": template("month_lock", lock_class=lock_class, key=engine.key),
            "table_id": sql.Literal(record.id),
            "generation": sql.Literal(record.generation),
            "schema": sql.Literal(names.schema),
            "live": names.live,
            "log": names.log,
            "columns": names_list(table.stored_columns),
        }
        connection.execute(
            template(
                "sync_function",
                first=_first(names, operation, parts, unique, assigned, live),
                in_place=in_place("forward", operation, parts, assignments(assigned)),
                **parts,
            )
        )
    create_truncate_function(connection, names, "forward")


def _first(
    names: Names,
    operation: str,
    parts: dict[str, sql.Composable],
    unique: list[str],
    assigned: list[str],
    live: Literal["none", "some"] | list[Month],
) -> sql.Composable:
    """Return what a trigger function tries first: the short way, where the months are known."""
    if live == "none":
        return template("sync_first_log", **parts)
    if live == "some" or parts["is_in_place"] == NEVER:
        return sql.SQL("-- Some months are live.")
    partitions = [(month.month, names.partition(month.partition_name)) for month in live]
    tried: list[sql.Composable] = []
    if operation != "insert":
        tried.append(row_first(operation, parts, unique, assigned, partitions))
    if operation != "delete":
        tried.append(rows_first(operation, parts, assignments(assigned), partitions))
    return sql.SQL("\n    ").join(tried)


def shorten(engine: Engine, record: Record, table: Table) -> None:
    """Let the triggers look no more which months are live, if all are.

    They must not while a snapshot is older than what was copied: to its owner the copied rows are
    not there. Nor where this role may not see the transactions of others, nor while a session may
    know less partitions than there are.
    """
    connection = engine.connection
    months = bookkeeping.months(connection, record.id)
    all_live = all(month.state == "live" for month in months)
    known = [month.month for month in months]
    if not all_live or known != calendar.through(known[0], known[-1]):
        return
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        row = connection.execute(_OLD_SNAPSHOTS, [record.id]).fetchone()
        if row is None or row[0]:
            break
        engine.check_stop()
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
    patience = max(0.0, deadline - time.monotonic())
    try:
        if descriptors.refresh(engine, engine.names.partitioned, record.id, patience):
            return
    except LockStarved:
        return
    with connection.transaction():
        create_forward_functions(engine, connection, record, table, months)


def touched(operation: str, table: Table, key: str) -> sql.Composable:
    """Return the query of touched row versions: primary key, key, is_new."""
    columns = key_columns(table)
    # The key may be part of the primary key already.
    others = [column for column in columns if column != key]
    return touched_rows(operation, names_list(others), sql.Identifier(key))


def has_time_zone(table: Table, key: str) -> bool:
    """Tell whether the key's month depends on the session's time zone."""
    column = table.column(key)
    return column is None or column.base_type == "timestamp with time zone"


def _whole_key(table: Table, key: str) -> list[str]:
    """Return the columns of the new table's primary key."""
    columns = key_columns(table)
    return columns if key in columns else [*columns, key]


_IDENTICAL_IF_EQUAL = frozenset(
    {
        *("smallint", "integer", "bigint", "uuid", "boolean", "bytea"),
        *("text", "character varying"),
        *("date", "timestamp without time zone", "timestamp with time zone"),
    }
)
"""Types whose values look alike if they are equal, by a deterministic collation; unlike numeric's
5 and 5.00."""


def is_in_place(operation: str, table: Table, unique: list[str]) -> sql.Composable:
    """Return the condition under which a statement is mirrored without another look at the table.

    `unique` are the columns that tell the copy's rows apart. An update can replace them in place
    unless it changes these, or other constraints demand that all rows leave before others come.
    """
    if operation != "update":
        return ALWAYS
    others = any(index.is_unique and not index.is_primary for index in table.indexes)
    excluding = any(index.is_exclusion for index in table.indexes)
    deferrable = table.primary_key is not None and table.primary_key.is_deferrable
    alike = {
        column.name
        for column in table.columns
        if column.base_type in _IDENTICAL_IF_EQUAL and column.is_deterministic
    }
    look_alike = not alike.issuperset(unique)
    # Nobody may set GENERATED ALWAYS AS IDENTITY, we neither; but SET … = DEFAULT changes it.
    identities = any(each.identity == "a" and each.name not in unique for each in table.columns)
    if others or excluding or deferrable or look_alike or identities:
        return NEVER
    if not assigned_columns(table, unique):
        return NEVER
    return in_place_condition(names_list(unique))


def assigned_columns(table: Table, unique: list[str]) -> list[str]:
    """Return the columns that an update sets in the copy's rows."""
    return [column for column in table.stored_columns if column not in unique]


def assignments(assigned: list[str]) -> sql.Composable | None:
    """Return how an update sets these columns of the copy's rows, None where there are none."""
    if not assigned:
        return None
    return sql.SQL(", ").join(
        sql.SQL("{column} = excluded.{column}").format(column=sql.Identifier(column))
        for column in assigned
    )


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
        if record.default_name:
            default = names.partition(record.default_name)
            connection.execute(sql.SQL("TRUNCATE {}").format(default))
        connection.execute(sql.SQL("TRUNCATE {}").format(names.log))
        bookkeeping.set_phase(connection, record.id, Phase.PREPARE, done=False)

    in_short_transaction(engine, "undo sync", end, table_id=record.id)
    return Outcome("done", f"dropped the triggers of {engine.spec.table}, and emptied the copy")
