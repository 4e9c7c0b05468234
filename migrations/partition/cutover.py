"""Phase cutover: the new table takes the name, in one short transaction; and rollback."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from migrations.partition import bookkeeping, definitions
from migrations.partition.backfill import backfill_added
from migrations.partition.bookkeeping import Record
from migrations.partition.catalogue import ForeignKey, Table, grants_on, version
from migrations.partition.drain import Drain, drain_live_months, homeless_keys
from migrations.partition.drift import drifted
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import PlanRefused, Refused
from migrations.partition.locks import NotYet, in_short_transaction
from migrations.partition.names import PARTITIONED, fitted
from migrations.partition.phases import Phase
from migrations.partition.plan import reasons_since, same_shape
from migrations.partition.script import Script
from migrations.partition.statements import (
    OPERATIONS,
    function_settings,
    in_place,
    names_list,
    raw,
    template,
    transition_table,
)
from migrations.partition.swap import cutover_swap, rollback_swap, swap
from migrations.partition.sync import (
    assigned_columns,
    assignments,
    create_forward_functions,
    create_triggers,
    create_truncate_function,
    drop_triggers,
    has_time_zone,
    is_in_place,
    key_columns,
    touched,
)

MOST_CHANGES = 1_000
"""Changes that are drained while everybody waits for the table."""

_PATIENCE_SECONDS = 0.5
_DOUBLINGS = 4
_STRICT_ATTEMPTS = 20

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
    """The tries of a cutover, and when the last one had its locks; seconds."""

    attempts: int = 0
    began: float = 0
    seconds: float = 0
    """How long the table was locked."""


def cutover(engine: Engine) -> Outcome:
    """Swap the tables; afterwards the old one is kept in step by the reverse triggers.

    Raises Refused if rows are left that the new table cannot hold, LockStarved if the lock could
    not be had; nothing was swapped then, and the old table is in use as before.
    """
    connection = engine.connection
    record = bookkeeping.required(connection, engine.spec, Phase.CUTOVER)
    if record.phase.position >= Phase.CUTOVER.position:
        finished = finish_foreign_keys(engine, record)
        return Outcome(
            "done" if finished else "found",
            f"{engine.spec.table} is the partitioned table already"
            + ("; its foreign keys are validated now" if finished else ""),
        )
    names = engine.names
    old, new = _checked(engine)
    times = _Times()
    drain = Drain.of(engine, old)
    prepared = _Prepared(engine, names.table, names.partitioned_name, _cutover_script, old, new)

    def before() -> None:
        prepared.begin_try()
        backfill_added(engine, old, record)
        drain_live_months(engine, old, record.id)
        keys = homeless_keys(engine, drain, connection)
        if keys:
            raise Refused(
                f"the new table cannot hold rows of {engine.spec.table} whose"
                f" {engine.spec.key} is missing or out of range; give them one, or delete them: "
                + ", ".join(keys)
            )
        _wait_for_long_transactions(engine)
        prepared.refresh()

    def swap_tables(session: psycopg.Connection) -> None:
        prepared.lock(session)
        times.began = time.monotonic()
        prepared.expect_unchanged(session)
        drained = _drain_rest(engine, session, record.id, drain)
        times.attempts += 1
        if drained and times.attempts <= min(_STRICT_ATTEMPTS, engine.options.attempts // 2):
            # A reader in REPEATABLE READ who waits for the table has its snapshot already, and
            # would not see these rows in the new one. Most tries find nothing to drain.
            raise NotYet("changes came in at the last moment", soon=True)
        prepared.script.run(session)
        bookkeeping.set_phase(session, record.id, Phase.CUTOVER)
        bookkeeping.update(
            session,
            record.id,
            foreign_keys=Jsonb([asdict(foreign_key) for foreign_key in prepared.old.foreign_keys]),
            foreign_keys_validated=not prepared.old.foreign_keys,
        )

    in_short_transaction(engine, "cutover", swap_tables, table_id=record.id, before=before)
    times.seconds = time.monotonic() - times.began
    finish_foreign_keys(engine, record)
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
    changed = drifted(engine.connection, old, new, engine.spec.key)
    if changed:
        raise Refused(
            f"{engine.spec.table} changed since prepare ({', '.join(changed)}): take the phases"
            " back to prepare (undo), and begin anew"
        )
    reasons = reasons_since(engine.connection, engine.spec, old)
    if reasons:
        raise PlanRefused(engine.spec.table, reasons)
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
    present = {fitted(index.name + PARTITIONED) for index in old.indexes}
    dropped = [each.name for each in new.indexes if each.is_unique and each.name not in present]
    if dropped:
        raise Refused(
            f"a unique index of {engine.spec.table} was dropped since prepare, of which the copy"
            f" has {', '.join(dropped)}: take the phases back to prepare (undo), and begin anew"
        )
    invalid = [index.name for index in new.indexes if not index.is_valid]
    if invalid:
        raise Refused(f"index {', '.join(invalid)} of {new.name} is not valid: run backfill again")
    return old, new


@dataclass
class _Prepared:
    """A swap, ready to be done under the lock without another look at the catalogue."""

    engine: Engine
    live: str
    other: str
    build: Callable[[Engine, Table, Table], Script]
    old: Table
    new: Table
    script: Script = field(default_factory=Script)
    seconds: float = 0
    """How long this try may wait for its locks, and others behind it."""
    _locks: list[sql.Composed] = field(default_factory=list[sql.Composed])
    _tries: int = 0
    _version: str | None = None

    def begin_try(self) -> None:
        """Begin a try, more patient than those before: the last ones wait a whole lock timeout.

        Most tables are free within moments; where one is not, because somebody reads it for long,
        writers should not queue up behind us to find that out.
        """
        attempts = self.engine.options.attempts
        left = max(0, attempts - 1 - self._tries)
        halvings = min(_DOUBLINGS, left * (_DOUBLINGS + 1) // attempts)
        # The session's, which may be less than the option.
        row = self.engine.connection.execute(
            "SELECT setting::integer FROM pg_settings WHERE name = 'lock_timeout'"
        ).fetchone()
        self.seconds = (row[0] if row else 0) / 1000 / 2**halvings

    def _present(self, connection: psycopg.Connection) -> str:
        schema = self.engine.names.schema
        return version(
            connection,
            *(sql.Identifier(schema, name).as_string() for name in (self.live, self.other)),
        )

    def refresh(self) -> None:
        """Read both tables again if they changed, and write down what is to be done."""
        connection = self.engine.connection
        present = self._present(connection)
        if present == self._version:
            return
        self.old, self.new = (_checked if self.build is _cutover_script else _shapes)(self.engine)
        self.script = self.build(self.engine, self.old, self.new)
        self._locks = _lock_statements(connection, *self._in_order())
        self._version = present

    def _in_order(self) -> tuple[Table, Table]:
        """Return the table that has the name, and the other."""
        both = {table.name: table for table in (self.old, self.new)}
        return both[self.live], both[self.other]

    def lock(self, session: psycopg.Connection) -> None:
        """Take all locks, within one time for all together: nobody waits for us longer."""
        self._tries += 1
        deadline = time.monotonic() + self.seconds
        for statement in self._locks:
            left = max(1, int((deadline - time.monotonic()) * 1000))
            session.execute(
                sql.SQL("SET LOCAL lock_timeout = {}; {}").format(sql.Literal(left), statement)
            )

    def expect_unchanged(self, session: psycopg.Connection) -> None:
        """Raise NotYet if a definition changed before the tables were locked."""
        if self._present(session) != self._version:
            raise NotYet("the tables, or what depends on them, are being changed", soon=True)


def _shapes(engine: Engine) -> tuple[Table, Table]:
    return same_shape(engine, engine.names.retired_name, engine.names.table)


def _lock_statements(
    connection: psycopg.Connection, live: Table, other: Table
) -> list[sql.Composed]:
    """Return what locks both tables, the views on the live one, and what foreign keys point at.

    Views come first, as for their readers; else each of us would wait for the other.
    """
    statements: list[sql.Composed] = [
        template(
            "cutover_view_lock",
            view=sql.Identifier(view.schema, view.name),
            owner=sql.Identifier(view.owner),
        )
        for view in live.views
    ]
    wanted = [
        (sql.Identifier(table.schema, table.name), "ACCESS EXCLUSIVE") for table in (live, other)
    ]
    # Dropping a foreign key takes this of the table it points at, adding one less.
    mode = "ACCESS EXCLUSIVE" if live.kind == "p" else "SHARE ROW EXCLUSIVE"
    wanted += [(table, mode) for table in _referenced(connection, live, other)]
    return statements + [
        template("cutover_lock", relation=relation, mode=raw(mode)) for relation, mode in wanted
    ]


def _referenced(session: psycopg.Connection, *tables: Table) -> list[sql.Identifier]:
    """Return the tables that foreign keys point at, as far as LOCK TABLE is allowed on them."""
    found = {
        (foreign_key.referenced_schema, foreign_key.referenced_table)
        for table in tables
        for foreign_key in table.foreign_keys
    }
    lockable: list[sql.Identifier] = []
    for table in (sql.Identifier(*name) for name in sorted(found)):
        row = session.execute(
            "SELECT has_table_privilege(%s, 'UPDATE, DELETE, TRUNCATE')", [table.as_string()]
        ).fetchone()
        if row and row[0]:
            lockable.append(table)
    return lockable


def _wait_for_long_transactions(engine: Engine) -> None:
    """Wait a moment, blocking nobody, for transactions that would be in the way, or misled.

    In the way is who holds the table for longer than a lock timeout already; who does for less is
    outwaited, by tries that grow more patient. Raises NotYet naming them. Those of other roles are
    seen only by members of pg_read_all_stats.
    """
    record = bookkeeping.find(engine.connection, engine.spec)
    parameters = {
        "copied_at": record.copied_at if record else None,
        "seconds": engine.options.lock_timeout_milliseconds / 1000,
        "relation": engine.names.live.as_string(),
    }
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while rows := engine.connection.execute(_LONG_TRANSACTIONS, parameters).fetchall():
        engine.check_stop()
        if time.monotonic() > deadline:
            found = "; ".join(row[0] for row in rows)
            raise NotYet(f"transactions run that began too early: {found}")
        time.sleep(0.02)


def _cutover_script(engine: Engine, old: Table, new: Table) -> Script:
    """Return the swap; the functions of the reverse triggers are created at once."""
    names, script = engine.names, Script()
    _create_reverse_functions(engine, old)
    drop_triggers(script, names.live)
    swap(script, cutover_swap(engine, old, new))
    definitions.regrant(script, old.grants, new.grants, names.live)
    _let_read(engine, script, old, new)
    _add_foreign_keys(engine, script, old, new)
    create_triggers(script, names, names.live, "reverse")
    return script


def _let_read(engine: Engine, script: Script, old: Table, new: Table) -> None:
    """Let those read the partitions who may read the table by now, if they are others."""
    readers = definitions.readers_of_partitions(old)
    if set(readers) == set(definitions.readers_of_partitions(new)):
        return
    for name in _leaves(engine.connection, new.schema, new.name):
        partition = engine.names.partition(name)
        definitions.regrant(script, readers, grants_on(engine.connection, partition), partition)


def _drain_rest(engine: Engine, session: psycopg.Connection, table_id: int, drain: Drain) -> int:
    """Drain what came in since, with the tables locked; return how many keys.

    Raises NotYet if it is too much.
    """
    total = 0
    waiting = drain.waiting_months(session)
    if not waiting:
        return 0
    months = {month.month: month for month in bookkeeping.months(session, table_id)}
    for text in waiting:
        month = months.get(date.fromisoformat(text)) if len(text) == len("2026-01-01") else None
        if month is None or month.state != "live":
            raise NotYet("rows came in for a month without a partition")
        if drain.pending(session, month.month, MOST_CHANGES) >= MOST_CHANGES:
            raise NotYet("too many changes came in at the last moment")
        partition = engine.names.partition(month.partition_name)
        total += drain.rest(session, month.month, partition)
    return total


def _add_foreign_keys(engine: Engine, script: Script, old: Table, new: Table) -> None:
    """Add the foreign keys to every partition, unvalidated, and defer those of the old table.

    Not earlier: a copy whose changes wait in the log would keep the application from deleting what
    only the copy still refers to.
    """
    if not old.foreign_keys:
        return
    # All of a partition in one statement: a third of the time, while everybody waits.
    additions = sql.SQL(", ").join(
        sql.SQL("ADD CONSTRAINT {} {} NOT VALID").format(
            sql.Identifier(foreign_key.name), raw(foreign_key.definition)
        )
        for foreign_key in old.foreign_keys
    )
    for name in _leaves(engine.connection, new.schema, new.name):
        partition = engine.names.partition(name)
        script.execute(template("cutover_foreign_key", partition=partition, additions=additions))
    for foreign_key in old.foreign_keys:
        constraint = sql.Identifier(foreign_key.name)
        script.execute(
            template("cutover_defer", retired=engine.names.retired, constraint=constraint)
        )


def _leaves(session: psycopg.Connection, schema: str, table: str) -> list[str]:
    rows = session.execute(
        "SELECT c.relname FROM pg_partition_tree(%s::regclass) AS t"
        " JOIN pg_class AS c ON c.oid = t.relid WHERE t.isleaf ORDER BY 1",
        [sql.Identifier(schema, table).as_string()],
    ).fetchall()
    return [row[0] for row in rows]


def _recorded_foreign_keys(record: Record) -> list[ForeignKey]:
    """Return the foreign keys as they were before cutover."""
    return [ForeignKey(**values) for values in record.foreign_keys or []]


def finish_foreign_keys(engine: Engine, record: Record) -> bool:
    """Validate the foreign keys, and give them to the table itself; return whether any was left."""
    present = bookkeeping.find(engine.connection, engine.spec)
    if present is None or present.foreign_keys_validated or present.phase is Phase.RETIRE:
        return False
    names = engine.names
    _, new = same_shape(engine, names.retired_name, names.table)
    there = {foreign_key.name for foreign_key in new.foreign_keys}
    for foreign_key in _recorded_foreign_keys(present):
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


def _create_reverse_functions(engine: Engine, old: Table) -> None:
    """Create the functions of the reverse triggers; they name tables as they will be called."""
    names, session = engine.names, engine.connection
    primary_key = key_columns(old)
    assigned = assigned_columns(old, primary_key)
    for operation in OPERATIONS:
        parts: dict[str, sql.Composable] = {
            "retired": names.retired,
            "copy": names.retired,
            "live": names.live,
            "columns": names_list(old.stored_columns),
            "primary_key": names_list(primary_key),
            "unique": names_list(primary_key),
            "key": engine.key,
            "touched_rows": touched(operation, old, engine.spec.key),
        }
        kind = "insert" if operation == "insert" else "change"
        session.execute(
            template(
                "cutover_reverse_function",
                function=names.function("reverse", operation),
                settings=function_settings(has_time_zone(old, engine.spec.key), True),
                transition_table=transition_table(operation),
                is_in_place=is_in_place(operation, old, primary_key),
                in_place=in_place("reverse", operation, parts, assignments(assigned)),
                apply=template(f"cutover_reverse_{kind}", **parts),
            )
        )
    create_truncate_function(session, names, "reverse")


def rollback(engine: Engine) -> Outcome:
    """Swap back; the old table has every write, and the new one is kept in step again."""
    connection = engine.connection
    record = bookkeeping.find(connection, engine.spec)
    if record is None or record.phase.position < Phase.CUTOVER.position:
        return Outcome("found", f"{engine.spec.table} is not cut over: nothing to roll back")
    if record.phase is Phase.RETIRE:
        raise Refused(f"the old table of {engine.spec.table} was dropped by retire: no way back")
    names = engine.names
    old, new = _shapes(engine)

    def script(engine: Engine, old: Table, new: Table) -> Script:
        script = Script()
        create_forward_functions(engine, connection, record, old)
        drop_triggers(script, names.live)
        _drop_foreign_keys(engine, script, record, new)
        swap(script, rollback_swap(engine, new, old))
        definitions.regrant(script, new.grants, old.grants, names.live)
        _empty_default(engine, script, record, old)
        create_triggers(script, names, names.live, "forward")
        return script

    prepared = _Prepared(engine, names.table, names.retired_name, script, old, new)

    def swap_back(session: psycopg.Connection) -> None:
        prepared.lock(session)
        prepared.expect_unchanged(session)
        prepared.script.run(session)
        bookkeeping.set_phase(session, record.id, Phase.VERIFY, done=False)
        bookkeeping.update(session, record.id, cut_over_at=None, foreign_keys_validated=False)

    def before() -> None:
        prepared.begin_try()
        prepared.refresh()

    in_short_transaction(engine, "rollback", swap_back, table_id=record.id, before=before)
    return Outcome(
        "done",
        f"{engine.spec.table} is the old table again, with every row;"
        f" {names.partitioned_name} is kept in step: `cutover` swaps again",
    )


def _empty_default(engine: Engine, script: Script, record: Record, old: Table) -> None:
    """Log the rows of the default partition, which is kept in step by nobody, and empty it."""
    if not record.default_name:
        return
    parts = {
        "log": engine.names.log,
        "key": engine.key,
        "primary_key": names_list(key_columns(old)),
        "default": engine.names.partition(record.default_name),
    }
    script.execute(template("rollback_default", **parts))


def _drop_foreign_keys(engine: Engine, script: Script, record: Record, new: Table) -> None:
    """Drop those of the new table, and give the old table's back their time of checking."""
    names = engine.names
    on_table = {foreign_key.name for foreign_key in new.foreign_keys}
    leaves = _leaves(engine.connection, names.schema, names.table)
    for foreign_key in _recorded_foreign_keys(record):
        owners = [names.live] if foreign_key.name in on_table else map(names.partition, leaves)
        for relation in owners:
            script.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(
                    relation, sql.Identifier(foreign_key.name)
                )
            )
        script.execute(
            sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}").format(
                names.retired,
                sql.Identifier(foreign_key.name),
                sql.SQL("DEFERRABLE INITIALLY DEFERRED")
                if foreign_key.is_deferred
                else sql.SQL("DEFERRABLE INITIALLY IMMEDIATE")
                if foreign_key.is_deferrable
                else sql.SQL("NOT DEFERRABLE"),
            )
        )
