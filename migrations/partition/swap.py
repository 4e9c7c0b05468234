"""The swap of two tables' names, and of all that hangs on them, in the caller's transaction.

Cutover swaps the old table for the new one, rollback swaps back: the same steps, other names.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from migrations.partition.catalogue import Table, View
from migrations.partition.definitions import alter_trigger, secure
from migrations.partition.engine import Engine
from migrations.partition.names import PARTITIONED, RETIRED, fitted
from migrations.partition.script import Executes
from migrations.partition.statements import raw, template


@dataclass(frozen=True)
class Swap:
    """Which table leaves the name and which takes it, with the endings they wear aside."""

    engine: Engine
    outgoing: Table
    incoming: Table
    outgoing_ending: str
    incoming_ending: str

    @property
    def live(self) -> sql.Identifier:
        return self.engine.names.live

    @property
    def aside(self) -> sql.Identifier:
        """The outgoing table, after the swap."""
        return sql.Identifier(self.engine.names.schema, self.aside_name)

    @property
    def aside_name(self) -> str:
        return fitted(self.engine.names.table + self.outgoing_ending)


def cutover_swap(engine: Engine, old: Table, new: Table) -> Swap:
    """The old table goes aside as `_retired`, the new one comes from `_partitioned`."""
    return Swap(engine, old, new, RETIRED, PARTITIONED)


def rollback_swap(engine: Engine, new: Table, old: Table) -> Swap:
    """The new table goes aside as `_partitioned`, the old one comes back from `_retired`."""
    return Swap(engine, new, old, PARTITIONED, RETIRED)


def swap(connection: Executes, change: Swap) -> None:
    """Swap names, and move views, triggers, sequences, grants and publications along.

    The definitions in `change.outgoing` were read while it had its name, so that they mean,
    executed afterwards, the table that took it.
    """
    _rename(connection, change)
    _move_sequences(connection, change)
    for view in change.outgoing.views:
        connection.execute(_view(view))
    _move_policies(connection, change)
    _move_triggers(connection, change)
    _move_publications(connection, change)


def _rename(connection: Executes, change: Swap) -> None:
    engine = change.engine
    schema = engine.names.schema
    incoming_names = {index.name for index in change.incoming.indexes}
    for index in change.outgoing.indexes:
        waiting = fitted(index.name + change.incoming_ending)
        # Only an invalid index has no counterpart; it keeps its name.
        if waiting in incoming_names:
            aside = fitted(index.name + change.outgoing_ending)
            _rename_index(connection, schema, index.name, aside)
            _rename_index(connection, schema, waiting, index.name)
    connection.execute(
        template(
            "cutover_rename",
            live=change.live,
            outgoing_name=sql.Identifier(change.aside_name),
            incoming=sql.Identifier(schema, change.incoming.name),
            live_name=sql.Identifier(engine.names.table),
        )
    )


def _rename_index(connection: Executes, schema: str, present: str, future: str) -> None:
    connection.execute(
        sql.SQL("ALTER INDEX {} RENAME TO {}").format(
            sql.Identifier(schema, present), sql.Identifier(future)
        )
    )


def _move_sequences(connection: Executes, change: Swap) -> None:
    incoming_identity = {s.column: s for s in change.incoming.sequences if s.is_identity}
    for sequence in change.outgoing.sequences:
        name = sql.Identifier(sequence.schema, sequence.name)
        if not sequence.is_identity:
            connection.execute(
                sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(
                    name,
                    sql.Identifier(
                        change.engine.names.schema, change.engine.names.table, sequence.column
                    ),
                )
            )
            continue
        other = incoming_identity[sequence.column]
        # Identity columns have a sequence each: the incoming one goes on where the other was.
        connection.execute(
            sql.SQL("SELECT setval({}, last_value, is_called) FROM {}").format(
                sql.Identifier(other.schema, other.name).as_string(), name
            )
        )


def _view(view: View) -> sql.Composed:
    options: sql.Composable = sql.SQL("")
    if view.options:
        options = sql.SQL(" WITH ({})").format(
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
                for name, value in (option.split("=", 1) for option in view.options)
            )
        )
    return sql.SQL("CREATE OR REPLACE VIEW {}{} AS {}").format(
        sql.Identifier(view.schema, view.name), options, raw(view.definition)
    )


def _move_policies(connection: Executes, change: Swap) -> None:
    """The table that takes the name takes the row security along, as it is now."""
    for policy in change.incoming.policies:
        connection.execute(
            sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(policy.name), change.live)
        )
    for wanted, there, name in (
        (change.outgoing.row_security, change.incoming.row_security, "DISABLE"),
        (change.outgoing.forces_row_security, change.incoming.forces_row_security, "NO FORCE"),
    ):
        if there and not wanted:
            connection.execute(
                sql.SQL("ALTER TABLE {} {} ROW LEVEL SECURITY").format(change.live, raw(name))
            )
    secure(connection, change.outgoing, change.live)


def _move_triggers(connection: Executes, change: Swap) -> None:
    """The table aside must not fire the application's triggers when it is kept in step."""
    incoming = {trigger.name for trigger in change.incoming.triggers}
    for trigger in change.outgoing.triggers:
        if trigger.name not in incoming:
            connection.execute(raw(trigger.definition))
        alter_trigger(connection, change.live, trigger.enabled, trigger.name)
        if change.outgoing_ending == RETIRED:
            alter_trigger(connection, change.aside, "D", trigger.name)
        else:
            connection.execute(
                sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger.name), change.aside)
            )


def _move_publications(connection: Executes, change: Swap) -> None:
    incoming = {publication.name for publication in change.incoming.publications}
    for publication in change.outgoing.publications:
        name = sql.Identifier(publication.name)
        if publication.name not in incoming:
            connection.execute(
                sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(name, change.live)
            )
        connection.execute(sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(name, change.aside))
