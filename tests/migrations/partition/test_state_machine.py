"""Phases, writers and failures in any order hypothesis thinks of, against a model in Python.

One thread: what overlaps is transactions that are begun at one step and end at a later one. A key
that an open transaction has written is left alone by the others, so that nobody waits; the engine
does meet their locks, and gives up with a clear error. After every step the committed rows are
those of the model, and the two tables agree but for keys that the engine knows to be pending.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import errors

from migrations.partition import calendar
from migrations.partition.engine import Engine, Options, open_session
from migrations.partition.errors import LockStarved, Refused
from migrations.partition.phases import Phase
from migrations.partition.progress import Reporter
from migrations.partition.runs import PHASES, UNDOS, run
from tests.migrations.partition import chaos
from tests.migrations.partition.application import SPEC
from tests.servers import PostgresServer
from tests.soak import FACTOR, times

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 * FACTOR)]

TABLE = """
CREATE TABLE review_logs (
    id uuid PRIMARY KEY,
    rating smallint,
    state jsonb NOT NULL DEFAULT '{}',
    reviewed_at timestamp
);
CREATE INDEX ON review_logs (reviewed_at);
CREATE VIEW good AS SELECT id, reviewed_at FROM review_logs WHERE rating > 2;
"""

Row = tuple[int, datetime]
"""Rating and time; the key is the model's."""

Statement = tuple[str, Any, dict[uuid.UUID, "Row | None"]]
"""The statement, its parameters, and the rows that are to be by key; without any it is not run."""

NOTHING: Statement = ("", (), {})

MONTHS = [calendar.plus(calendar.current_month(), step) for step in (-2, -1, 0, 1)]
FAR = [calendar.plus(calendar.current_month(), step) for step in (-9, 6)]
"""Months without rows at first, that get a partition on the way."""
SLOTS = 3
"""Transactions that may be open at once."""

ratings = st.integers(1, 4)
moments = st.builds(
    lambda month, days: datetime.combine(month, datetime.min.time()) + timedelta(days),
    st.sampled_from(MONTHS),
    st.sampled_from([0, 8, 27]),
)
far_moments = st.sampled_from([datetime.combine(month, datetime.min.time()) for month in FAR])
slots = st.integers(0, SLOTS - 1)
picks = st.integers(0, 10**6)


def key_of(number: int) -> uuid.UUID:
    return uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128, version=4)


@dataclass
class Transaction:
    """One that is open: what it would commit."""

    connection: psycopg.Connection
    is_snapshot: bool
    """REPEATABLE READ."""
    rows: dict[uuid.UUID, Row | None] = field(default_factory=dict[uuid.UUID, Row | None])
    """What it wrote, by key; None is deleted."""
    base: dict[uuid.UUID, Row] = field(default_factory=dict[uuid.UUID, Row])
    """The committed rows as of its snapshot."""


class Partitioning(RuleBasedStateMachine):
    """The table, its model, and everybody at work on it."""

    server: ClassVar[PostgresServer]
    counts: ClassVar[dict[str, int]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.name, self.url = self.server.create_database()
        self.observer = psycopg.connect(self.url, autocommit=True)
        self.observer.execute(TABLE)
        self.model: dict[uuid.UUID, Row] = {}
        self.open: dict[int, Transaction] = {}
        self.numbers = itertools.count(1)
        self.untouched: set[uuid.UUID] = set()
        self.phase: Phase | None = None
        self.count("runs")

    @classmethod
    def count(cls, what: str) -> None:
        cls.counts[what] = cls.counts.get(what, 0) + 1

    # -- Rows ----------------------------------------------------------------------------------

    @initialize(rows=st.lists(st.tuples(ratings, moments), min_size=3, max_size=12))
    def fill(self, rows: list[Row]) -> None:
        # A row in each month that nobody touches: so that it has a partition at cutover.
        kept: list[Row] = [(1, datetime.combine(month, datetime.min.time())) for month in MONTHS]
        for row in [*kept, *rows]:
            key = key_of(next(self.numbers))
            self.observer.execute(
                "INSERT INTO review_logs (id, rating, reviewed_at) VALUES (%s, %s, %s)",
                (key, *row),
            )
            self.model[key] = row
        self.untouched = set(list(self.model)[: len(kept)])

    def transaction(self, slot: int) -> Transaction:
        """Return the open transaction of a slot; where there is none, one that ends at once."""
        if slot in self.open:
            return self.open[slot]
        connection = psycopg.connect(self.url)
        connection.execute("SET lock_timeout = '3s'")
        connection.commit()
        return Transaction(connection, False)

    def visible(self, transaction: Transaction) -> dict[uuid.UUID, Row]:
        """Return what a transaction sees."""
        seen = dict(transaction.base if transaction.is_snapshot else self.model)
        for key, row in transaction.rows.items():
            if row is None:
                seen.pop(key, None)
            else:
                seen[key] = row
        return seen

    def choose(self, transaction: Transaction, pick: int, most: int = 1) -> list[uuid.UUID]:
        """Choose up to so many keys that it sees and no other transaction has written, if any."""
        taken = self.untouched.union(
            *(other.rows for other in self.open.values() if other is not transaction)
        )
        free = sorted(key for key in self.visible(transaction) if key not in taken)
        return [free[(pick + 7 * step) % len(free)] for step in range(min(most, len(free)))]

    def is_present(self, transaction: Transaction, key: uuid.UUID) -> bool:
        """Tell whether a row that it sees is there still, as ON CONFLICT finds it."""
        if not transaction.is_snapshot or key in transaction.rows:
            return True
        return self.model.get(key) == transaction.base.get(key)

    def write(
        self,
        slot: int,
        action: Callable[[Transaction], Statement],
    ) -> None:
        """Run one statement in the transaction of a slot, and note what it changed."""
        transaction = self.transaction(slot)
        known = slot in self.open
        statement, parameters, changed = action(transaction)
        try:
            if changed:
                transaction.connection.execute(statement.encode(), parameters)
        except errors.SerializationFailure:
            # A row was changed since the snapshot, as Postgres tells anybody.
            assert transaction.is_snapshot
            self.count("serialization failures")
            self.forget(slot, transaction)
            return
        transaction.rows |= changed
        if not known:
            self.commit(slot, transaction)

    def commit(self, slot: int, transaction: Transaction) -> None:
        transaction.connection.commit()
        for key, row in transaction.rows.items():
            if row is None:
                self.model.pop(key, None)
            else:
                self.model[key] = row
        self.forget(slot, transaction)

    def forget(self, slot: int, transaction: Transaction) -> None:
        transaction.connection.close()
        if self.open.get(slot) is transaction:
            del self.open[slot]

    # -- Writers -------------------------------------------------------------------------------

    @rule(slot=slots, is_snapshot=st.booleans(), touches=st.booleans())
    def begin(self, slot: int, is_snapshot: bool, touches: bool) -> None:
        """Open a transaction; perhaps before sync, perhaps holding the table already."""
        if slot in self.open:
            return
        connection = psycopg.connect(self.url)
        connection.execute("SET lock_timeout = '3s'")
        connection.commit()
        if is_snapshot:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        # Takes the snapshot, and with `touches` the lock of a reader.
        connection.execute("SELECT count(*) FROM review_logs" if touches else "SELECT now()")
        self.open[slot] = Transaction(connection, is_snapshot, base=dict(self.model))

    @rule(slot=slots, commits=st.booleans())
    def end(self, slot: int, commits: bool) -> None:
        if slot not in self.open:
            return
        transaction = self.open[slot]
        if commits:
            self.commit(slot, transaction)
        else:
            transaction.connection.rollback()
            self.forget(slot, transaction)

    def insertion(self, slot: int, rows: list[Row]) -> None:
        def action(_: Transaction) -> Statement:
            fresh: dict[uuid.UUID, Row | None] = {key_of(next(self.numbers)): row for row in rows}
            values = ", ".join(["(%s, %s, %s)"] * len(rows))
            parameters = [value for key, row in fresh.items() for value in (key, *(row or ()))]
            return (
                f"INSERT INTO review_logs (id, rating, reviewed_at) VALUES {values}",
                parameters,
                fresh,
            )

        self.write(slot, action)

    @rule(slot=slots, rows=st.lists(st.tuples(ratings, moments), min_size=1, max_size=4))
    def insert(self, slot: int, rows: list[Row]) -> None:
        self.insertion(slot, rows)

    @precondition(lambda self: self.phase not in (Phase.CUTOVER, Phase.RETIRE))
    @rule(slot=slots, rating=ratings, moment=far_moments)
    def insert_far(self, slot: int, rating: int, moment: datetime) -> None:
        """A row for a month that may have no partition yet."""
        if slot in self.open:
            return
        self.insertion(slot, [(rating, moment)])

    @rule(slot=slots, pick=picks, rating=ratings, most=st.integers(1, 4))
    def update(self, slot: int, pick: int, rating: int, most: int) -> None:
        def action(transaction: Transaction) -> Statement:
            keys, seen = self.choose(transaction, pick, most), self.visible(transaction)
            statement = "UPDATE review_logs SET rating = %s WHERE id = ANY(%s)"
            return statement, (rating, keys), {key: (rating, seen[key][1]) for key in keys}

        self.write(slot, action)

    @rule(slot=slots, pick=picks, moment=moments, most=st.integers(1, 3))
    def move(self, slot: int, pick: int, moment: datetime, most: int) -> None:
        """To another month, perhaps."""

        def action(transaction: Transaction) -> Statement:
            keys, seen = self.choose(transaction, pick, most), self.visible(transaction)
            statement = "UPDATE review_logs SET reviewed_at = %s WHERE id = ANY(%s)"
            return statement, (moment, keys), {key: (seen[key][0], moment) for key in keys}

        self.write(slot, action)

    @rule(slot=slots, pick=picks, moment=st.none() | moments)
    def change_key(self, slot: int, pick: int, moment: datetime | None) -> None:
        """Give a row another key, and perhaps another month in the same statement."""

        def action(transaction: Transaction) -> Statement:
            keys, seen = self.choose(transaction, pick), self.visible(transaction)
            if not keys:
                return NOTHING
            key = keys[0]
            fresh = key_of(next(self.numbers))
            row = (seen[key][0], moment or seen[key][1])
            statement = "UPDATE review_logs SET id = %s, reviewed_at = %s WHERE id = %s"
            return statement, (fresh, row[1], key), {key: None, fresh: row}

        self.write(slot, action)

    @rule(slot=slots, pick=picks, most=st.integers(1, 3))
    def delete(self, slot: int, pick: int, most: int) -> None:
        def action(transaction: Transaction) -> Statement:
            keys = self.choose(transaction, pick, most)
            return "DELETE FROM review_logs WHERE id = ANY(%s)", (keys,), dict.fromkeys(keys)

        self.write(slot, action)

    @rule(slot=slots, pick=picks, rating=ratings, moment=moments)
    def replace(self, slot: int, pick: int, rating: int, moment: datetime) -> None:
        """Delete a row, and insert one of the same key later in the transaction."""
        if slot not in self.open:
            return

        def deletion(transaction: Transaction) -> Statement:
            keys.extend(self.choose(transaction, pick))
            return "DELETE FROM review_logs WHERE id = ANY(%s)", (keys,), dict.fromkeys(keys)

        def insertion(_: Transaction) -> Statement:
            statement = "INSERT INTO review_logs (id, rating, reviewed_at) VALUES (%s, %s, %s)"
            return statement, (keys[0], rating, moment), {keys[0]: (rating, moment)}

        keys: list[uuid.UUID] = []
        self.write(slot, deletion)
        if keys and slot in self.open:
            self.write(slot, insertion)

    @rule(slot=slots, pick=picks, rating=ratings, moment=moments)
    def upsert(self, slot: int, pick: int, rating: int, moment: datetime) -> None:
        """One row that is there, and one that is not, in one statement."""

        def action(transaction: Transaction) -> Statement:
            keys, seen = self.choose(transaction, pick), self.visible(transaction)
            if not keys or not self.is_present(transaction, keys[0]):
                return NOTHING
            key = keys[0]
            fresh = key_of(next(self.numbers))
            # By the primary key there is: from cutover on it includes the time.
            partitioned = self.phase in (Phase.CUTOVER, Phase.RETIRE)
            target = "(id, reviewed_at)" if partitioned else "(id)"
            statement = (
                "INSERT INTO review_logs (id, rating, reviewed_at) VALUES (%s, 1, %s), (%s, %s, %s)"
                f" ON CONFLICT {target} DO UPDATE SET rating = excluded.rating + 1"
            )
            at = seen[key][1]
            rows: dict[uuid.UUID, Row | None] = {key: (2, at), fresh: (rating, moment)}
            return statement, (key, at, fresh, rating, moment), rows

        self.write(slot, action)

    # -- The engine ----------------------------------------------------------------------------

    def engine(self, attempts: int = 2) -> Engine:
        options = Options(lock_timeout_milliseconds=40, attempts=attempts, jobs=2)
        connection = open_session(self.url, SPEC, "state machine", options)
        return Engine(SPEC, self.url, connection, options, Reporter(quiet=True), "state machine")

    def operate(self, work: Callable[[Engine], object]) -> None:
        """Run a phase; with transactions open it may be starved, or ask for another one first."""
        engine = self.engine()
        try:
            work(engine)
            self.count("phases done")
        except LockStarved:
            # Nobody but the open transactions can be in the way.
            if not self.open:
                raise
            self.count("phases starved")
        except Refused as error:
            if "first" not in str(error):
                raise
            self.count("phases refused")
        finally:
            engine.connection.close()
            self.look_up_phase()

    def look_up_phase(self) -> None:
        standing = chaos.standing(self.observer)
        self.phase = Phase(standing.phase) if standing.phase else None

    @rule()
    def go_on(self) -> None:
        """Do the next phase; cutover is the last that can be taken back."""
        position = -1 if self.phase is None else self.phase.position
        following = list(Phase)[min(position + 1, Phase.CUTOVER.position)]
        self.operate(PHASES[following])

    @rule(until=st.sampled_from([Phase.SYNC, Phase.BACKFILL, Phase.VERIFY, Phase.CUTOVER]))
    def run_until(self, until: Phase) -> None:
        self.operate(lambda engine: run(engine, until))

    @rule(phase=st.sampled_from([Phase.PREPARE, Phase.SYNC, Phase.BACKFILL, Phase.VERIFY]))
    def again(self, phase: Phase) -> None:
        """Any phase, in its turn or not."""
        self.operate(PHASES[phase])

    @precondition(lambda self: self.phase is not None)
    @rule()
    def take_back(self) -> None:
        assert self.phase is not None
        self.operate(UNDOS[self.phase])

    @precondition(lambda self: self.phase is Phase.CUTOVER)
    @rule()
    def roll_back(self) -> None:
        self.operate(UNDOS[Phase.CUTOVER])

    @precondition(lambda self: self.phase is not None)
    @rule(
        exchange=st.integers(12, 90),
        when=st.sampled_from(["before", "after"]),
        backwards=st.booleans(),
    )
    def fail(self, exchange: int, when: Any, backwards: bool) -> None:
        """All sessions of the engine are ended in the middle of a phase."""
        assert self.phase is not None
        position = min(self.phase.position + 1, Phase.CUTOVER.position)
        work = UNDOS[self.phase] if backwards else PHASES[list(Phase)[position]]
        end = chaos.intercept(chaos.Strike(exchange, when), self.end_sessions)
        try:
            self.operate(work)
        except psycopg.OperationalError as error:
            if not chaos.is_lost_connection(error):
                raise
            self.count("phases failed")
        finally:
            end()
            chaos.wait_until_gone(self.observer)
            self.look_up_phase()

    def end_sessions(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'partitioning %'"
            )

    # -- What always holds ---------------------------------------------------------------------

    @invariant()
    def the_application_reads_what_was_committed(self) -> None:
        assert self.rows_of("review_logs") == self.model

    @invariant()
    def both_tables_agree_but_for_what_is_pending(self) -> None:
        if self.phase is Phase.CUTOVER:
            assert self.rows_of("review_logs_retired") == self.model
        else:
            assert chaos.disagreements(self.observer) == []

    def rows_of(self, relation: str) -> dict[uuid.UUID, Row]:
        rows = self.observer.execute(
            f"SELECT id, rating, reviewed_at FROM {relation}".encode()
        ).fetchall()
        found = {row[0]: (row[1], row[2]) for row in rows}
        assert len(found) == len(rows), "a row is doubled"
        return found

    def teardown(self) -> None:
        """Let everybody finish, and the engine its job: both tables are the model."""
        try:
            for slot, transaction in list(self.open.items()):
                self.commit(slot, transaction)
            engine = self.engine(attempts=50)
            try:
                run(engine, Phase.CUTOVER)
                assert PHASES[Phase.VERIFY](engine).verified
                for relation in ("review_logs", "review_logs_retired"):
                    assert self.rows_of(relation) == self.model
                assert run(engine, Phase.RETIRE).verified
                assert self.rows_of("review_logs") == self.model
            finally:
                engine.connection.close()
        finally:
            for transaction in self.open.values():
                transaction.connection.close()
            self.observer.close()
            self.server.drop_database(self.name)


def test_any_order_of_phases_writers_and_failures_keeps_both_tables_as_the_model(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody ends a transaction while the engine waits for it, so it need not wait long.
    monkeypatch.setattr("migrations.partition.cutover._PATIENCE_SECONDS", 0.02)
    Partitioning.server = postgres_server
    run_state_machine_as_test(
        Partitioning,
        settings=settings(
            max_examples=times(12),
            stateful_step_count=40,
            deadline=None,
            derandomize="CI" in os.environ or FACTOR == 1,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            phases=[Stage.generate],
            print_blob=True,
        ),
    )
    print(Partitioning.counts)
    for what in ("phases done", "phases starved", "phases refused", "phases failed"):
        assert Partitioning.counts.get(what, 0) > 0, Partitioning.counts
