"""Repair: keys that verification found to differ are brought to the state of the table in use."""

from __future__ import annotations

from datetime import date

import psycopg
from psycopg import sql

from migrations.partition.bookkeeping import Record
from migrations.partition.catalogue import Table
from migrations.partition.definitions import bounds
from migrations.partition.drain import Drain, drain_live_months
from migrations.partition.engine import Engine
from migrations.partition.locks import in_short_transaction
from migrations.partition.phases import Phase
from migrations.partition.statements import names_list, template
from migrations.partition.sync import key_columns

_BATCH = 500
"""Rows of the old table mended in one transaction, for which writers wait."""


def repair(
    engine: Engine,
    record: Record,
    old: Table,
    new: Table,
    months: list[date],
    hashed_columns: sql.Composable,
) -> int:
    """Mend the months; return how many keys were logged and brought up to date.

    The keys go through the change log, so that a run that is killed leaves nothing to know of.
    """
    logged = sum(_log(engine, old, new, month, hashed_columns) for month in months)
    if record.phase is Phase.CUTOVER:
        _mend_retired(engine, record, old)
    else:
        drain_live_months(engine, old, record.id)
    return logged


def _log(
    engine: Engine, old: Table, new: Table, month: date, hashed_columns: sql.Composable
) -> int:
    """Put the keys of a month that differ into the change log, all from one snapshot."""
    return engine.connection.execute(
        template(
            "repair_log",
            log=engine.names.log,
            month=sql.Literal(month),
            primary_key=names_list(key_columns(old)),
            hashed_columns=hashed_columns,
            key=engine.key,
            original=sql.Identifier(old.schema, old.name),
            copy=sql.Identifier(new.schema, new.name),
            **bounds(month),
        )
    ).rowcount


def _mend_retired(engine: Engine, record: Record, old: Table) -> None:
    """Bring the logged keys of the old table to the state of the new one."""
    drain = Drain.of(engine, old)
    drain.ready(engine.connection)
    parts = {**drain.parts, "retired": engine.names.retired, "limit": sql.Literal(_BATCH)}

    def batch(session: psycopg.Connection, month: date) -> int:
        session.execute("DELETE FROM pg_temp.drained")
        taken = session.execute(template("drain_take", **parts, month=sql.Literal(month))).rowcount
        if taken:
            session.execute(template("repair_retired", **parts))
        return taken

    for text in drain.waiting_months(engine.connection):
        month = date.fromisoformat(text)
        while in_short_transaction(
            engine,
            f"repair {month:%Y-%m}",
            lambda session, month=month: batch(session, month),
            table_id=record.id,
        ):
            pass
