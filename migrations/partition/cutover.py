"""Phase cutover: the new table takes the name, in one short transaction; and rollback."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql

from migrations.partition import bookkeeping, definitions
from migrations.partition.backfill import backfill_added
from migrations.partition.bookkeeping import Record
from migrations.partition.catalogue import Table
from migrations.partition.drain import Drain, drain_live_months, homeless_keys
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import Refused
from migrations.partition.locks import NotYet, in_short_transaction
from migrations.partition.names import PARTITIONED, fitted
from migrations.partition.phases import Phase
from migrations.partition.plan import same_shape
from migrations.partition.statements import OPERATIONS, names_list, raw, template
from migrations.partition.swap import cutover_swap, rollback_swap, swap
from migrations.partition.sync import (
    create_forward_functions,
    create_triggers,
    create_truncate_function,
    drop_triggers,
    key_columns,
    touched,
)

MOST_CHANGES = 1_000
"""Changes that are drained while everybody waits for the table."""

# Transactions whose snapshots are older than what the new table holds, or that hold the table.
_LONG_TRANSACTIONS = """
SELECT format('pid %%s (%%s), transaction open for %%s, %%s: %%s', a.pid, a.usename,
    date_trunc('second', clock_timestamp() - a.xact_start), a.state, left(a.query, 60))
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.backend_type = 'client backend'
    AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL AND (
        a.backend_xmin IS NOT NULL AND a.xact_start <= %(copied_at)s
        OR a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
            AND EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.granted
                AND l.relation = %(relation)s::regclass))
LIMIT 5
"""


@dataclass
class _Times:
    """How long the table was locked, in seconds."""

    began: float = 0
    seconds: float = 0


def cutover(engine: Engine) -> Outcome:
    """Swap the tables; afterwards the old one is kept in step by the reverse triggers.

    Raises Refused if rows are left that the new table cannot hold, LockStarved if the lock could
    not be had; nothing was swapped then, and the old table is in use as before.
    """
    connection = engine.connection
    record = bookkeeping.required(connection, engine.spec, Phase.CUTOVER)
    if record.phase.position >= Phase.CUTOVER.position:
        finished = _finish_foreign_keys(engine, record)
        return Outcome(
            "done" if finished else "found",
            f"{engine.spec.table} is the partitioned table already"
            + ("; its foreign keys are validated now" if finished else ""),
        )
    names = engine.names
    old, new = _checked(engine)
    times = _Times()

    def before() -> None:
        backfill_added(engine, old, record.id)
        drain_live_months(engine, old, record.id)
        drain = Drain.of(engine, old)
        keys = homeless_keys(engine, drain, connection)
        if keys:
            raise Refused(
                f"the new table cannot hold rows of {engine.spec.table} whose"
                f" {engine.spec.key} is missing or out of range; give them one, or delete them: "
                + ", ".join(keys)
            )
        _wait_for_long_transactions(engine, record.id)

    def swap_tables(session: psycopg.Connection) -> None:
        nonlocal old, new
        _lock_tables(engine, session, [(names.live, "ACCESS EXCLUSIVE"),
                                       (names.partitioned, "ACCESS EXCLUSIVE"),
                                       *_referenced(old)])  # fmt: skip
        times.began = time.monotonic()
        old, new = _checked(engine)
        _drain_rest(engine, session, record.id, old)
        drop_triggers(session, names, names.live, "forward")
        swap(session, cutover_swap(engine, old, new))
        definitions.grant(session, old.grants, names.live)
        _add_foreign_keys(engine, session, record.id, old)
        _create_reverse(engine, session, old)
        bookkeeping.set_phase(session, record.id, Phase.CUTOVER)
        bookkeeping.update(session, record.id, foreign_keys_validated=not old.foreign_keys)

    in_short_transaction(engine, "cutover", swap_tables, table_id=record.id, before=before)
    times.seconds = time.monotonic() - times.began
    _finish_foreign_keys(engine, record)
    return Outcome(
        "done",
        f"{engine.spec.table} is partitioned; its name was locked for"
        f" {times.seconds * 1000:.0f} ms. {names.retired_name} is kept in step:"
        " `rollback` swaps back without loss",
        seconds=round(times.seconds, 4),
        rows=record.verified_rows,
        months=len(bookkeeping.months(connection, record.id)),
        verified=True,
        digest=record.verified_digest,
    )


def _checked(engine: Engine) -> tuple[Table, Table]:
    """Return both tables if they still match. Raises Refused if they changed since prepare."""
    old, new = same_shape(engine, engine.names.table, engine.names.partitioned_name)
    carried = {index.name for index in new.indexes}
    missing = [
        index.name
        for index in definitions.valid_indexes(old)
        if fitted(index.name + PARTITIONED) not in carried
    ]
    if missing:
        raise Refused(
            f"index {', '.join(missing)} of {engine.spec.table} was created since prepare: drop it,"
            " or take the phases back to prepare (undo), and begin anew"
        )
    invalid = [index.name for index in new.indexes if not index.is_valid]
    if invalid:
        raise Refused(f"index {', '.join(invalid)} of {new.name} is not valid: run backfill again")
    return old, new


def _referenced(old: Table) -> list[tuple[sql.Identifier, str]]:
    """Return the tables that the foreign keys point at, with the lock that a new one takes."""
    tables = sorted({(fk.referenced_schema, fk.referenced_table) for fk in old.foreign_keys})
    return [(sql.Identifier(*table), "SHARE ROW EXCLUSIVE") for table in tables]


def _lock_tables(
    engine: Engine, session: psycopg.Connection, wanted: Iterable[tuple[sql.Identifier, str]]
) -> None:
    """Lock all, within one lock timeout for all together."""
    budget = session.execute("SELECT setting::integer FROM pg_settings WHERE name = 'lock_timeout'")
    row = budget.fetchone()
    milliseconds = row[0] if row else engine.options.lock_timeout_milliseconds
    deadline = time.monotonic() + milliseconds / 1000
    for relation, mode in wanted:
        left = max(1, int((deadline - time.monotonic()) * 1000))
        session.execute("SELECT set_config('lock_timeout', %s, true)", [str(left)])
        session.execute(template("cutover_lock", relation=relation, mode=raw(mode)))


def _wait_for_long_transactions(engine: Engine, table_id: int) -> None:
    record = bookkeeping.find(engine.connection, engine.spec)
    rows = engine.connection.execute(
        _LONG_TRANSACTIONS,
        {
            "copied_at": record.copied_at if record else None,
            "seconds": engine.options.lock_timeout_milliseconds / 1000,
            "relation": engine.names.live.as_string(),
        },
    ).fetchall()
    if rows:
        raise NotYet("transactions run that began too early: " + "; ".join(row[0] for row in rows))


def _drain_rest(engine: Engine, session: psycopg.Connection, table_id: int, old: Table) -> None:
    """Drain what came in since, with the tables locked. Raises NotYet if it is too much."""
    drain = Drain.of(engine, old)
    months = {month.month: month for month in bookkeeping.months(session, table_id)}
    for text in drain.waiting_months(session):
        month = months.get(date.fromisoformat(text)) if len(text) == len("2026-01-01") else None
        if month is None or month.state != "live":
            raise NotYet("rows came in for a month without a partition")
        if drain.pending(session, month.month, MOST_CHANGES) >= MOST_CHANGES:
            raise NotYet("too many changes came in at the last moment")
        while drain.batch(session, month.month, engine.names.partition(month.partition_name)):
            pass


def _add_foreign_keys(
    engine: Engine, session: psycopg.Connection, table_id: int, old: Table
) -> None:
    """Add the foreign keys to every partition, unvalidated.

    Not earlier: a copy whose changes wait in the log would keep the application from deleting what
    only the copy still refers to.
    """
    for name in _leaves(session, engine.names.schema, engine.names.table):
        for foreign_key in old.foreign_keys:
            session.execute(
                template(
                    "cutover_foreign_key",
                    partition=engine.names.partition(name),
                    constraint=sql.Identifier(foreign_key.name),
                    definition=raw(foreign_key.definition),
                )
            )


def _leaves(session: psycopg.Connection, schema: str, table: str) -> list[str]:
    rows = session.execute(
        "SELECT c.relname FROM pg_partition_tree(%s::regclass) AS t"
        " JOIN pg_class AS c ON c.oid = t.relid WHERE t.isleaf ORDER BY 1",
        [sql.Identifier(schema, table).as_string()],
    ).fetchall()
    return [row[0] for row in rows]


def _finish_foreign_keys(engine: Engine, record: Record) -> bool:
    """Validate the foreign keys, and give them to the table itself; return whether any was left."""
    present = bookkeeping.find(engine.connection, engine.spec)
    if present is None or present.foreign_keys_validated or present.phase is Phase.RETIRE:
        return False
    names = engine.names
    old, new = same_shape(engine, names.retired_name, names.table)
    there = {foreign_key.name for foreign_key in new.foreign_keys}
    for foreign_key in old.foreign_keys:
        if foreign_key.name in there:
            continue
        constraint = sql.Identifier(foreign_key.name)
        for name in _leaves(engine.connection, names.schema, names.table):
            validation = template(
                "cutover_validate", partition=names.partition(name), constraint=constraint
            )
            in_short_transaction(
                engine,
                f"validate {foreign_key.name} of {name}",
                lambda session, validation=validation: session.execute(validation),
                table_id=record.id,
            )
        adoption = template(
            "cutover_adopt",
            live=names.live,
            constraint=constraint,
            definition=raw(foreign_key.definition),
        )
        in_short_transaction(
            engine,
            f"foreign key {foreign_key.name}",
            lambda session, adoption=adoption: session.execute(adoption),
            table_id=record.id,
        )
    bookkeeping.update(engine.connection, record.id, foreign_keys_validated=True)
    return True


def _create_reverse(engine: Engine, session: psycopg.Connection, old: Table) -> None:
    names = engine.names
    for operation in OPERATIONS:
        parts = {
            "retired": names.retired,
            "live": names.live,
            "columns": names_list(old.stored_columns),
            "primary_key": names_list(key_columns(old)),
            "key": engine.key,
            "touched_rows": touched(operation, old, engine.spec.key),
        }
        kind = "insert" if operation == "insert" else "change"
        session.execute(
            template(
                "cutover_reverse_function",
                function=names.function("reverse", operation),
                apply=template(f"cutover_reverse_{kind}", **parts),
            )
        )
    create_truncate_function(session, names, "reverse")
    create_triggers(session, names, names.live, "reverse")


def rollback(engine: Engine) -> Outcome:
    """Swap back; the old table has every write, and the new one is kept in step again."""
    connection = engine.connection
    record = bookkeeping.find(connection, engine.spec)
    if record is None or record.phase.position < Phase.CUTOVER.position:
        return Outcome("found", f"{engine.spec.table} is not cut over: nothing to roll back")
    if record.phase is Phase.RETIRE:
        raise Refused(f"the old table of {engine.spec.table} was dropped by retire: no way back")
    names = engine.names
    old, _ = same_shape(engine, names.retired_name, names.table)

    def swap_back(session: psycopg.Connection) -> None:
        _lock_tables(engine, session, [(names.live, "ACCESS EXCLUSIVE"),
                                       (names.retired, "ACCESS EXCLUSIVE"),
                                       *((table, "ACCESS EXCLUSIVE")
                                         for table, _ in _referenced(old))])  # fmt: skip
        before, new = same_shape(engine, names.retired_name, names.table)
        drop_triggers(session, names, names.live, "reverse")
        _drop_foreign_keys(engine, session, before, new)
        swap(session, rollback_swap(engine, new, before))
        create_forward_functions(engine, session, record, before)
        create_triggers(session, names, names.live, "forward")
        bookkeeping.set_phase(session, record.id, Phase.VERIFY, done=False)
        bookkeeping.update(session, record.id, cut_over_at=None, foreign_keys_validated=False)

    in_short_transaction(engine, "rollback", swap_back, table_id=record.id)
    return Outcome(
        "done",
        f"{engine.spec.table} is the old table again, with every row;"
        f" {names.partitioned_name} is kept in step: `cutover` swaps again",
    )


def _drop_foreign_keys(engine: Engine, session: psycopg.Connection, old: Table, new: Table) -> None:
    names = engine.names
    on_table = {foreign_key.name for foreign_key in new.foreign_keys}
    leaves = _leaves(session, names.schema, names.table)
    for foreign_key in old.foreign_keys:
        owners = [names.live] if foreign_key.name in on_table else map(names.partition, leaves)
        for relation in owners:
            session.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(
                    relation, sql.Identifier(foreign_key.name)
                )
            )
