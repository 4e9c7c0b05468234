"""Draining the change log: rows whose keys are in it are brought to the old table's state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql

from migrations.partition import bookkeeping, calendar
from migrations.partition.catalogue import Table
from migrations.partition.definitions import bounds, create_month
from migrations.partition.engine import Engine
from migrations.partition.errors import Refused
from migrations.partition.locks import (
    in_short_transaction,
    month_class,
    month_number,
)
from migrations.partition.statements import names_list, raw, template
from migrations.partition.sync import key_columns

BATCH = 5_000
"""Keys drained in one transaction."""

_MOST_COUNTED = 10_000_000


@dataclass(frozen=True)
class Drain:
    """The parts of the drain's statements for one table."""

    key_columns: list[str]
    parts: dict[str, sql.Composable]
    definitions: sql.Composable

    @classmethod
    def of(cls, engine: Engine, table: Table) -> Drain:
        """Describe the drain of `table`, the old one."""
        types = {column.name: column.type for column in table.columns}
        columns = key_columns(table)
        return cls(
            columns,
            {
                "log": engine.names.log,
                "live": engine.names.live,
                "key": engine.key,
                "primary_key": names_list(columns),
                "columns": names_list(table.stored_columns),
            },
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), raw(types[name])) for name in columns
            ),
        )

    def ready(self, connection: psycopg.Connection) -> None:
        """Create the session's temporary table of keys; call it outside transactions."""
        connection.execute("SET client_min_messages = warning")
        connection.execute(
            sql.SQL(
                "CREATE TEMPORARY TABLE IF NOT EXISTS drained ({}) ON COMMIT DELETE ROWS"
            ).format(self.definitions)
        )

    def batch(
        self,
        connection: psycopg.Connection,
        month: date,
        partition: sql.Identifier,
        limit: int = BATCH,
    ) -> int:
        """Drain the oldest changes of a month, in the caller's transaction; return how many keys.

        Nobody else may write to the partition meanwhile: the month is not live, or the caller holds
        its lock exclusively, or the table's.
        """
        # Few keys against many rows: never a scan, whatever the statistics say.
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            connection.execute("SELECT set_config(%s, 'off', true)", [setting])
        parts = {
            **self.parts,
            **bounds(month),
            "month": sql.Literal(month),
            "limit": sql.Literal(limit),
            "partition": partition,
        }
        connection.execute("DELETE FROM pg_temp.drained")
        taken = connection.execute(template("drain_take", **parts)).rowcount
        if taken:
            connection.execute(template("drain_delete", **parts))
            stored = connection.execute(template("drain_insert", **parts)).rowcount
            if stored < taken:
                # Deleted by now, moved to another month, or in the way of one another.
                connection.execute(template("drain_again", **parts))
        return taken

    def rest(self, connection: psycopg.Connection, month: date, partition: sql.Identifier) -> int:
        """Drain all changes of a month, while nobody adds to them; return how many keys.

        Raises Refused if rows stay in each other's way once every row from before has left.
        """
        most = 2 * self.pending(connection, month, _MOST_COUNTED)
        total = 0
        while taken := self.batch(connection, month, partition):
            total += taken
            if total > most:
                raise Refused(
                    f"rows of {month:%Y-%m} break a unique index that only the copy still has:"
                    " take the phases back to prepare (undo), and begin anew"
                )
        return total

    def forget(
        self, connection: psycopg.Connection, month: date, partition: sql.Identifier
    ) -> None:
        """Delete the rows whose changes wait in the log from a month that has no indexes yet."""
        if not self.pending(connection, month, 1):
            return
        # The log is never analyzed; a join by loops would scan it once a row.
        connection.execute("SELECT set_config('enable_nestloop', 'off', true)")
        parts = {**self.parts, "month": sql.Literal(month), "partition": partition}
        connection.execute(template("backfill_forget", **parts))

    def pending(self, connection: psycopg.Connection, month: date, most: int) -> int:
        """Return how many changes of a month wait, counting no further than `most`."""
        row = connection.execute(
            sql.SQL(
                "SELECT count(*) FROM (SELECT FROM {} WHERE month = {} LIMIT {}) AS counted"
            ).format(self.parts["log"], month, most)
        ).fetchone()
        return row[0] if row else 0

    def waiting_months(self, connection: psycopg.Connection) -> list[str]:
        """Return the months with changes, as text: also `infinity` and '' for none."""
        # A loose scan of the index: one probe a month, however long the log is.
        rows = connection.execute(
            sql.SQL(
                "WITH RECURSIVE found AS ("
                " (SELECT month FROM {log} WHERE month IS NOT NULL ORDER BY month LIMIT 1)"
                " UNION ALL SELECT (SELECT l.month FROM {log} AS l WHERE l.month > found.month"
                " ORDER BY l.month LIMIT 1) FROM found WHERE found.month IS NOT NULL)"
                " SELECT month::text FROM found WHERE month IS NOT NULL"
                " UNION ALL (SELECT '' FROM {log} WHERE month IS NULL LIMIT 1)"
            ).format(log=self.parts["log"])
        ).fetchall()
        return [row[0] for row in rows]


def homeless_keys(engine: Engine, drain: Drain, connection: psycopg.Connection) -> list[str]:
    """Forget logged changes outside all sane months whose rows are no longer there.

    Return the keys, with their value of the partition key, of rows that still are.
    """
    latest = calendar.plus(calendar.latest_sane(engine.spec.ahead), 1)
    outside = sql.SQL("(l.month IS NULL OR l.month < {earliest} OR l.month >= {latest})").format(
        earliest=calendar.EARLIEST, latest=latest
    )
    row_outside = sql.SQL("({key} IS NULL OR {key} < {earliest} OR {key} >= {latest})").format(
        key=engine.key, earliest=calendar.EARLIEST, latest=latest
    )
    keys = drain.parts["primary_key"]
    found = connection.execute(
        sql.SQL(
            "SELECT concat_ws(', ', {keys}) || ' (' || coalesce({key}::text, 'null') || ')'"
            " FROM {live} WHERE ({keys}) IN (SELECT {keys} FROM {log} AS l WHERE {outside})"
            " AND {row_outside} LIMIT 20"
        ).format(
            keys=keys,
            key=engine.key,
            live=drain.parts["live"],
            log=drain.parts["log"],
            outside=outside,
            row_outside=row_outside,
        )
    ).fetchall()
    if found:
        return [row[0] for row in found]
    # One statement, one snapshot: an entry goes only if its row, as of that moment, is elsewhere.
    connection.execute(
        sql.SQL(
            "DELETE FROM {log} AS l WHERE {outside} AND NOT EXISTS (SELECT FROM {live} AS o"
            " WHERE ({keys_of_row}) = ({keys_of_log}) AND {row_outside})"
        ).format(
            log=drain.parts["log"],
            live=drain.parts["live"],
            outside=outside,
            row_outside=row_outside,
            keys_of_row=_qualified("o", drain),
            keys_of_log=_qualified("l", drain),
        )
    )
    return []


def _qualified(alias: str, drain: Drain) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(alias, column) for column in drain.key_columns)


def _months_of_rows(engine: Engine, drain: Drain) -> set[date]:
    """Return the months from the first row through the last, and log rows outside all sane ones."""
    after = calendar.plus(calendar.latest_sane(engine.spec.ahead), 1)
    parts = {
        **drain.parts,
        "earliest": sql.Literal(calendar.EARLIEST.isoformat()),
        "after": sql.Literal(after.isoformat()),
    }
    engine.connection.execute(
        sql.SQL(
            "INSERT INTO {log} (month, {primary_key})"
            " SELECT date_trunc('month', {key})::date, {primary_key} FROM {live}"
            " WHERE {key} IS NULL OR {key} < {earliest} OR {key} >= {after}"
        ).format(**parts)
    )
    row = engine.connection.execute(
        sql.SQL(
            "SELECT date_trunc('month', min({key}))::date, date_trunc('month', max({key}))::date"
            " FROM {live} WHERE {key} >= {earliest} AND {key} < {after}"
        ).format(**parts)
    ).fetchone()
    return set(calendar.through(row[0], row[1])) if row and row[0] else set()


def add_missing_months(
    engine: Engine, table: Table, table_id: int, look_at_rows: bool = False
) -> list[date]:
    """Create the tables of months that were written to, or came near, since prepare.

    The log tells what was written since sync; for what came between prepare and sync, look at the
    rows. The months begin as pending; return them.
    """
    connection = engine.connection
    drain = Drain.of(engine, table)
    known = {month.month for month in bookkeeping.months(connection, table_id)}
    earliest, latest = calendar.EARLIEST, calendar.latest_sane(engine.spec.ahead)
    logged = {
        date.fromisoformat(text)
        for text in drain.waiting_months(connection)
        if text and len(text) == len("2026-01-01")
    }
    now = calendar.current_month()
    wanted = {month for month in logged if earliest <= month <= latest}
    if look_at_rows:
        wanted |= _months_of_rows(engine, drain)
    wanted |= set(calendar.through(now, calendar.plus(now, engine.spec.ahead)))
    missing = sorted(wanted - known)

    def create(session: psycopg.Connection) -> None:
        for month in missing:
            create_month(engine, session, table, month)
            session.execute(
                "INSERT INTO partitioning.months (table_id, month, partition_name)"
                " VALUES (%s, %s, %s)",
                [table_id, month, engine.names.partition_name(month)],
            )

    if missing:
        in_short_transaction(engine, "new months", create, table_id=table_id)
    return missing


def drain_live_months(engine: Engine, table: Table, table_id: int) -> int:
    """Drain what old snapshots logged for live months; return how many keys.

    Each batch holds its month's lock, so that writers wait for it no longer than a batch takes.
    """
    drain = Drain.of(engine, table)
    drain.ready(engine.connection)
    live = {
        m.month: m for m in bookkeeping.months(engine.connection, table_id) if m.state == "live"
    }
    total = 0
    for text in drain.waiting_months(engine.connection):
        month = live.get(date.fromisoformat(text)) if len(text) == len("2026-01-01") else None
        if month is None:
            continue
        # What comes in meanwhile is for the next call.
        for _ in range(1_000):
            partition = engine.names.partition(month.partition_name)

            def batch(
                session: psycopg.Connection,
                month: date = month.month,
                partition: sql.Identifier = partition,
            ) -> int:
                lock_month(session, table_id, month)
                taken = drain.batch(session, month, partition, BATCH // 5)
                if taken:
                    bookkeeping.note_copied(session, table_id)
                return taken

            taken = in_short_transaction(
                engine, f"drain {month.month:%Y-%m}", batch, table_id=table_id
            )
            total += taken
            if not taken:
                break
    return total


def lock_month(connection: psycopg.Connection, table_id: int, month: date) -> None:
    """Wait for the writers of a month, and keep new ones waiting until the transaction ends."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(%s, %s)", [month_class(table_id), month_number(month)]
    )
