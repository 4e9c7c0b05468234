"""Retention: partitions older than it are detached without blocking, then archived or dropped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql

from migrations.partition import calendar
from migrations.partition.bookkeeping import Record
from migrations.partition.engine import Engine
from migrations.partition.errors import Refused
from migrations.partition.locks import in_short_transaction
from migrations.partition.names import fitted
from migrations.partition.partitions import Partition, partitions

ARCHIVED = "_archived"


@dataclass(frozen=True)
class Expired:
    """A partition on its way out; `fate` is archive or drop, as it was when that was begun."""

    month: date
    partition_name: str
    fate: str


def first_kept(engine: Engine) -> date | None:
    """Return the first month within the retention, None if everything is kept."""
    months = engine.spec.retention
    return None if months is None else calendar.plus(calendar.current_month(), -months)


def expire(engine: Engine, record: Record, oid: int) -> list[Expired]:
    """Detach what is too old, and archive or drop it; also what a killed run has left half done.

    Each is noted before it is detached, so that nothing else is ever taken for it. Raises Refused,
    before anything changes, if an archive's name is taken.
    """
    unfinished = _unfinished(engine, record)
    limit = first_kept(engine)
    known = {(expired.month, expired.partition_name) for expired in unfinished}
    fresh = [
        Expired(partition.month, partition.name, engine.spec.expired)
        for partition in partitions(engine.connection, oid)
        if partition.month is not None
        and limit is not None
        and partition.month < limit
        and (partition.month, partition.name) not in known
    ]
    todo = unfinished + sorted(fresh, key=lambda expired: expired.month)
    for expired in todo:
        if expired.fate == "archive":
            _refuse_if_taken(engine, expired)
    for expired in todo:
        if expired in fresh:
            _note(engine, record, expired)
        _detach(engine, record, oid, expired)
        _finish(engine, record, expired)
        engine.reporter.say(f"{expired.partition_name}: detached; {expired.fate} done")
    return todo


def _unfinished(engine: Engine, record: Record) -> list[Expired]:
    return [
        Expired(*row)
        for row in engine.connection.execute(
            "SELECT month, partition_name, fate FROM partitioning.expired"
            " WHERE table_id = %s AND done_at IS NULL ORDER BY month",
            [record.id],
        )
    ]


def _archive_place(engine: Engine, expired: Expired) -> tuple[str, str]:
    """Return schema and name of the archived table."""
    names, wanted = engine.names, engine.spec.archive_schema
    if wanted and wanted != names.schema:
        return wanted, expired.partition_name
    return names.schema, fitted(expired.partition_name + ARCHIVED)


def _refuse_if_taken(engine: Engine, expired: Expired) -> None:
    schema, name = _archive_place(engine, expired)
    row = engine.connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL, to_regnamespace(%s) IS NULL AND"
        " NOT has_database_privilege(current_database(), 'CREATE')",
        [sql.Identifier(schema, name).as_string(), sql.Identifier(schema).as_string()],
    ).fetchone()
    if row and row[0]:
        raise Refused(
            f"{expired.partition_name} cannot be archived: {schema}.{name} exists already;"
            " rename or drop it"
        )
    if row and row[1]:
        raise Refused(
            f"there is no schema {schema} for archives, and this role may not create it:"
            f" CREATE SCHEMA {schema}, or change `archive_schema` in the spec"
        )


def _note(engine: Engine, record: Record, expired: Expired) -> None:
    def note(session: psycopg.Connection) -> None:
        session.execute(
            "INSERT INTO partitioning.expired (table_id, month, partition_name, fate)"
            " VALUES (%s, %s, %s, %s)",
            [record.id, expired.month, expired.partition_name, expired.fate],
        )
        session.execute(
            "DELETE FROM partitioning.months WHERE table_id = %s AND month = %s",
            [record.id, expired.month],
        )

    in_short_transaction(engine, f"expire {expired.partition_name}", note)


def _detach(engine: Engine, record: Record, oid: int, expired: Expired) -> None:
    """Detach the partition, concurrently where Postgres can: not beside a default partition."""
    names = engine.names
    partition = names.partition(expired.partition_name)
    concurrently = not any(found.is_default for found in partitions(engine.connection, oid))

    def detach(session: psycopg.Connection) -> None:
        found = _find(session, oid, expired)
        if found is None:
            return
        # A concurrent one whose wait for old transactions was cut short has only to be ended.
        how = "FINALIZE" if found.is_detaching else "CONCURRENTLY" if concurrently else ""
        session.execute(
            sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(
                names.live,
                partition,
                sql.SQL(how),  # pyright: ignore[reportArgumentType]
            )
        )

    in_short_transaction(
        engine,
        f"detach {expired.partition_name}",
        detach,
        table_id=record.id,
        # DETACH ... CONCURRENTLY makes transactions of its own.
        autocommit=True,
    )


def _find(connection: psycopg.Connection, oid: int, expired: Expired) -> Partition | None:
    return next(
        (found for found in partitions(connection, oid) if found.name == expired.partition_name),
        None,
    )


def _finish(engine: Engine, record: Record, expired: Expired) -> None:
    """Archive or drop the detached table."""
    names = engine.names
    table = names.partition(expired.partition_name)
    schema, name = _archive_place(engine, expired)

    def finish(session: psycopg.Connection) -> None:
        if expired.fate == "drop":
            session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        elif schema == names.schema:
            session.execute(
                sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, sql.Identifier(name))
            )
        else:
            there = session.execute(
                "SELECT to_regnamespace(%s)", [sql.Identifier(schema).as_string()]
            ).fetchone()
            if there and there[0] is None:
                session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            session.execute(
                sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table, sql.Identifier(schema))
            )
        session.execute(
            "UPDATE partitioning.expired SET done_at = now(), archived_as = %s"
            " WHERE table_id = %s AND month = %s AND done_at IS NULL",
            [
                f"{schema}.{name}" if expired.fate == "archive" else None,
                record.id,
                expired.month,
            ],
        )

    in_short_transaction(engine, f"{expired.fate} {expired.partition_name}", finish)
