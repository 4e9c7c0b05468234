"""Phase retire: the old table is dropped, once the new one has proved itself."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from migrations.partition import bookkeeping
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import Refused
from migrations.partition.locks import in_short_transaction
from migrations.partition.phases import Phase
from migrations.partition.plan import same_shape
from migrations.partition.statements import template
from migrations.partition.sync import drop_functions, drop_triggers
from migrations.partition.verify import compare


def retire(engine: Engine) -> Outcome:
    """Drop the old table. Raises Refused before the hold has passed, or if the tables differ.

    With `force` neither stops it.
    """
    connection = engine.connection
    record = bookkeeping.required(connection, engine.spec, Phase.RETIRE)
    names = engine.names
    if record.phase is Phase.RETIRE:
        return Outcome("found", f"the old table of {engine.spec.table} was dropped before")
    if not record.foreign_keys_validated:
        raise Refused("the foreign keys are not validated yet: run cutover again, it goes on there")
    hold = engine.options.hold if engine.options.hold is not None else engine.spec.hold
    if not engine.options.force:
        _refuse_within_hold(engine, hold)
    old, new = same_shape(engine, names.retired_name, names.table)
    comparison = compare(engine, old, new)
    if comparison.differences and not engine.options.force:
        raise Refused(
            f"{names.retired_name} differs from {engine.spec.table}; nothing was dropped"
            " (--force drops it all the same):\n" + "\n".join(comparison.differences)
        )

    def drop(session: psycopg.Connection) -> None:
        drop_triggers(session, names.live)
        drop_functions(session, names)
        session.execute(template("retire", retired=names.retired, log=names.log))
        bookkeeping.set_phase(session, record.id, Phase.RETIRE)

    in_short_transaction(engine, "retire", drop, table_id=record.id)
    outcome = comparison.outcome(f"dropped {names.retired_name}, the old {engine.spec.table}")
    if comparison.differences:
        return Outcome("done", f"dropped {names.retired_name}, although it differed (--force)")
    return outcome


def _refuse_within_hold(engine: Engine, hold: timedelta) -> None:
    row = engine.connection.execute(
        "SELECT date_trunc('second', cut_over_at + %(hold)s - now())::text, to_char("
        "cut_over_at + %(hold)s, 'YYYY-MM-DD HH24:MI \"UTC\"') FROM partitioning.tables"
        " WHERE table_name = %(table)s AND now() < cut_over_at + %(hold)s",
        {"hold": hold, "table": engine.spec.table},
    ).fetchone()
    if row:
        raise Refused(
            f"{engine.names.retired_name} is held until {row[1]} ({row[0]} to go): wait, set a"
            " shorter --hold, or --force"
        )
