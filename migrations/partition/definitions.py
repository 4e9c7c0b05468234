"""What the new table and its partitions carry over: indexes, settings, grants, comments."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import psycopg
from psycopg import sql

from migrations.partition import calendar
from migrations.partition.catalogue import Grant, Index, Table, grants_on
from migrations.partition.engine import Engine
from migrations.partition.names import PARTITIONED, fitted
from migrations.partition.script import Executes
from migrations.partition.statements import names_list, raw, template

_ENABLE = {
    "O": "ENABLE TRIGGER {}",
    "D": "DISABLE TRIGGER {}",
    "R": "ENABLE REPLICA TRIGGER {}",
    "A": "ENABLE ALWAYS TRIGGER {}",
}
_KEYWORDS = frozenset(
    ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"]
)  # fmt: skip


def bounds(month: date) -> dict[str, sql.Composable]:
    """Return the parts `lower` and `upper` of a month."""
    return {
        "lower": sql.Literal(month.isoformat()),
        "upper": sql.Literal(calendar.plus(month, 1).isoformat()),
    }


def valid_indexes(table: Table) -> list[Index]:
    """Return the indexes that are carried over."""
    return [index for index in table.indexes if index.is_valid]


def create_indexes(
    engine: Engine,
    connection: psycopg.Connection,
    table: Table,
    relation: sql.Identifier,
    prefix: str | None,
) -> None:
    """Create all indexes of `table` on `relation`.

    With a prefix, for a partition, it leads their names; without, for the new table, they get the
    ending that cutover takes away.
    """
    for index in valid_indexes(table):
        name = fitted(f"{prefix}_{index.name}" if prefix else index.name + PARTITIONED)
        # Once cut over, the table's own has the key already.
        present = [*index.columns, *index.included]
        if index.name in engine.spec.widen and engine.spec.key not in present:
            index = widened(index, engine.spec.key)
        if index.is_primary:
            connection.execute(_primary_key(engine, index, relation, name))
        elif index.constraint_name:
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}{}").format(
                    relation,
                    sql.Identifier(name),
                    raw(index.constraint_definition or ""),
                    _options(index.options),
                )
            )
        else:
            unique = sql.SQL("UNIQUE ") if index.is_unique else sql.SQL("")
            connection.execute(
                sql.SQL("CREATE {}INDEX {} ON {} {}").format(
                    unique, sql.Identifier(name), relation, raw(index.definition)
                )
            )
        if index.is_replica_identity:
            connection.execute(
                sql.SQL("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}").format(
                    relation, sql.Identifier(name)
                )
            )
        if index.comment and prefix is None:
            connection.execute(
                sql.SQL("COMMENT ON INDEX {} IS {}").format(
                    sql.Identifier(engine.names.schema, name), index.comment
                )
            )


def widened(index: Index, key: str) -> Index:
    """Return a unique index, or constraint, with the key as its last column."""
    return replace(
        index,
        columns=[*index.columns, key],
        definition=_with_key(index.definition, key),
        constraint_definition=_with_key(index.constraint_definition, key)
        if index.constraint_definition
        else None,
    )


def _with_key(definition: str, key: str) -> str:
    """Put the key at the end of the first list in parentheses, which is that of the columns."""
    depth, quote = 0, ""
    for place, character in enumerate(definition):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if not depth:
                name = sql.Identifier(key).as_string()
                return f"{definition[:place]}, {name}{definition[place:]}"
    raise ValueError(f"no list of columns in {definition}")


def _primary_key(engine: Engine, index: Index, relation: sql.Identifier, name: str) -> sql.Composed:
    key = engine.spec.key
    if key in index.columns:
        return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}{}").format(
            relation,
            sql.Identifier(name),
            raw(index.constraint_definition or ""),
            _options(index.options),
        )
    included = [column for column in index.included if column != key]
    include = sql.SQL(" INCLUDE ({})").format(names_list(included)) if included else sql.SQL("")
    return template(
        "prepare_primary_key",
        relation=relation,
        constraint=sql.Identifier(name),
        primary_key=names_list(index.columns),
        key=sql.Identifier(key),
        include=sql.SQL("{}{}").format(include, _options(index.options)),
    )


def _options(options: list[str]) -> sql.Composable:
    """Return the WITH clause of settings as in `reloptions`, empty if there are none."""
    if not options:
        return sql.SQL("")
    return sql.SQL(" WITH ({})").format(
        sql.SQL(", ").join(
            sql.SQL("{} = {}").format(
                sql.SQL(".").join(sql.Identifier(part) for part in name.split(".")),
                sql.Literal(value),
            )
            for name, value in (option.split("=", 1) for option in options)
        )
    )


def storage(table: Table) -> sql.Composable:
    """Return the WITH and TABLESPACE clauses of a partition."""
    clauses = [_options(table.options)]
    if table.tablespace:
        clauses.append(sql.SQL(" TABLESPACE {}").format(sql.Identifier(table.tablespace)))
    return sql.SQL("").join(clauses)


def create_month(
    engine: Engine,
    connection: psycopg.Connection,
    table: Table,
    month: date,
    parent: sql.Identifier | None = None,
) -> None:
    """Create the table of a month, not attached and without indexes.

    It takes its storage settings from `table`, all else from `parent`, by default the new table.
    """
    partition = engine.names.partition(engine.names.partition_name(month))
    connection.execute(
        template(
            "prepare_month",
            partition=partition,
            partitioned=parent or engine.names.partitioned,
            key=engine.key,
            storage=storage(table),
            **bounds(month),
        )
    )
    settle(connection, table, partition)


def settle(connection: psycopg.Connection, table: Table, partition: sql.Identifier) -> None:
    """Carry column settings, replica identity and readers to a partition."""
    set_columns(connection, table, partition)
    if table.replica_identity in ("f", "n"):
        kind = sql.SQL("FULL" if table.replica_identity == "f" else "NOTHING")
        connection.execute(sql.SQL("ALTER TABLE {} REPLICA IDENTITY {}").format(partition, kind))
    # Nobody else, whatever the default privileges are.
    wanted = readers_of_partitions(table)
    regrant(connection, wanted, grants_on(connection, partition), partition)


def set_columns(connection: psycopg.Connection, table: Table, relation: sql.Identifier) -> None:
    """Carry statistics targets and attribute options to `relation`."""
    for column in table.columns:
        name = sql.Identifier(column.name)
        if column.statistics is not None:
            connection.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STATISTICS {}").format(
                    relation, name, column.statistics
                )
            )
        for option in column.options:
            setting, value = option.split("=", 1)
            connection.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET ({} = {})").format(
                    relation, name, sql.Identifier(setting), sql.Literal(value)
                )
            )


def readers(table: Table) -> list[Grant]:
    """Return the privileges to read `table`."""
    return [entry for entry in table.grants if entry.privilege == "SELECT"]


def readers_of_partitions(table: Table) -> list[Grant]:
    """Return the privileges to read partitions by their own names: none where policies decide."""
    return [] if table.row_security else readers(table)


def regrant(
    connection: Executes, grants: list[Grant], present: list[Grant], relation: sql.Identifier
) -> None:
    """Give just these privileges on `relation`, which has those of `present`."""
    if set(grants) == set(present):
        return
    for grantee in sorted({entry.grantee or "" for entry in present}):
        # Those on single columns go along, and those that the grantee gave to others.
        connection.execute(
            sql.SQL("REVOKE ALL ON {} FROM {} CASCADE").format(
                relation, sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
            )
        )
    grant(connection, grants, relation)


def grant(connection: Executes, grants: list[Grant], relation: sql.Identifier) -> None:
    """Give the same privileges on `relation`."""
    for entry in grants:
        if entry.privilege not in _KEYWORDS:
            continue
        privilege: sql.Composable = raw(entry.privilege)
        if entry.column:
            privilege = sql.SQL("{} ({})").format(privilege, sql.Identifier(entry.column))
        connection.execute(
            sql.SQL("GRANT {} ON {} TO {}{}").format(
                privilege,
                relation,
                sql.Identifier(entry.grantee) if entry.grantee else sql.SQL("PUBLIC"),
                sql.SQL(" WITH GRANT OPTION") if entry.grantable else sql.SQL(""),
            )
        )


def alter_trigger(connection: Executes, relation: sql.Identifier, enabled: str, name: str) -> None:
    """Set when a trigger fires: O, D, R or A as in pg_trigger."""
    connection.execute(
        sql.SQL("ALTER TABLE {} {}").format(
            relation,
            sql.SQL(_ENABLE[enabled]).format(sql.Identifier(name)),  # pyright: ignore[reportArgumentType]
        )
    )


def secure(connection: Executes, table: Table, relation: sql.Identifier) -> None:
    """Give `relation` the row security of `table`, whose policies it must not have yet."""
    for policy in table.policies:
        roles = [sql.Identifier(role) if role else sql.SQL("PUBLIC") for role in policy.roles]
        statement = sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} TO {}").format(
            sql.Identifier(policy.name),
            relation,
            sql.SQL("PERMISSIVE" if policy.permissive else "RESTRICTIVE"),
            raw(policy.command),
            sql.SQL(", ").join(roles),
        )
        if policy.using is not None:
            statement = sql.SQL("{} USING ({})").format(statement, raw(policy.using))
        if policy.check is not None:
            statement = sql.SQL("{} WITH CHECK ({})").format(statement, raw(policy.check))
        connection.execute(statement)
    for wanted, name in (
        (table.row_security, "ENABLE"),
        (table.forces_row_security, "FORCE"),
    ):
        if wanted:
            connection.execute(
                sql.SQL("ALTER TABLE {} {} ROW LEVEL SECURITY").format(relation, raw(name))
            )
