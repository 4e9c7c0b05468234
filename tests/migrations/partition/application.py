"""The application as these tests know it: its tables, its rows, and writers that never stop."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString, Self

import psycopg
from psycopg import errors

from migrations.partition.engine import Engine, Options, open_session
from migrations.partition.progress import Reporter
from migrations.partition.spec import Spec

ROOT = Path(__file__).resolve().parents[3]
SOAK = int(os.environ.get("SOAK", "1"))
"""Multiplies how often chaos strikes."""

SPEC = Spec(table="public.review_logs", key="reviewed_at", interval="month", ahead=2)

_TABLES = """
CREATE TABLE actors (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "createdAt" timestamp DEFAULT now()
);
CREATE TABLE flashcards (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "activityPubId" text UNIQUE
);
CREATE TABLE review_logs (
    id uuid CONSTRAINT "PK_review_logs" PRIMARY KEY DEFAULT gen_random_uuid(),
    "flashcardId" uuid CONSTRAINT "FK_flashcard" REFERENCES flashcards ON DELETE CASCADE,
    "actorId" uuid CONSTRAINT "FK_actor" REFERENCES actors,
    rating smallint,
    state jsonb NOT NULL,
    elapsed_time integer,
    reviewed_at timestamp DEFAULT now(),
    scheduled_on timestamp,
    "previousState" jsonb
);
CREATE INDEX "IDX_review_logs_reviewed_at" ON review_logs (reviewed_at);
CREATE INDEX "IDX_review_logs_actor" ON review_logs ("actorId", reviewed_at);
INSERT INTO actors SELECT FROM generate_series(1, 10);
INSERT INTO flashcards ("activityPubId") SELECT 'card ' || g FROM generate_series(1, 50) AS g;
-- What the writers committed, told by themselves; looked at by nobody else.
CREATE TABLE journal (LIKE review_logs INCLUDING INDEXES);
"""

_ROWS = """
INSERT INTO review_logs
    ("flashcardId", "actorId", rating, state, elapsed_time, reviewed_at, "previousState")
SELECT f.ids[1 + g %% 50], a.ids[1 + g %% 10], 1 + g %% 4,
    jsonb_build_object('stability', g / 7.0, 'difficulty', g %% 10), g,
    date_trunc('day', now()::timestamp) - make_interval(days => %(days)s)
        + g * make_interval(days => %(days)s) / %(rows)s,
    CASE WHEN g %% 3 > 0 THEN jsonb_build_object('retrievability', 1.0 / g) END
FROM generate_series(1, %(rows)s) AS g,
    (SELECT array_agg(id) AS ids FROM actors) AS a,
    (SELECT array_agg(id) AS ids FROM flashcards) AS f
"""


def create(url: str, rows: int = 3000, days: int = 150) -> None:
    """Create the tables, with rows spread over the last days."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLES)
        connection.execute(_ROWS, {"rows": rows, "days": days})
        connection.execute("INSERT INTO journal SELECT * FROM review_logs")


@contextlib.contextmanager
def engine(url: str, spec: Spec = SPEC, **options: Any) -> Iterator[Engine]:
    """An operator's engine; patient, for these machines are slow."""
    chosen = Options(**{"attempts": 200, "lock_timeout_milliseconds": 300, **options})
    with open_session(url, spec, "test", chosen) as connection:
        yield Engine(spec, url, connection, chosen, Reporter(quiet=True), "test")


def write_spec(path: Path, **changes: Any) -> Path:
    """Write a spec file for review_logs."""
    values = {"table": SPEC.table, "key": SPEC.key, "interval": "month", "ahead": 2, **changes}
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "migrations.partition", *arguments]


def run(url: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the command line with --json; return exit code, the JSON object, standard error."""
    completed = subprocess.run(
        command(*arguments, "--json"),
        env={**os.environ, "DATABASE_URL": url},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = completed.stdout.strip().splitlines()
    return completed.returncode, json.loads(lines[-1]) if lines else {}, completed.stderr


def fingerprint(connection: psycopg.Connection) -> list[Any]:
    """Everything that a refusal must leave as it was: catalogue and rows."""
    queries: list[LiteralString] = [
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp' ORDER BY 1",
        "SELECT relnamespace::regnamespace::text, relname, relkind::text, relacl::text,"
        " reloptions FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_' ORDER BY 1, 2",
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger ORDER BY 1, 2",
        "SELECT proname FROM pg_proc WHERE pronamespace::regnamespace::text !~ '^pg_' ORDER BY 1",
        "SELECT conrelid::regclass::text, conname FROM pg_constraint ORDER BY 1, 2",
        "SELECT count(*), sum(hash_record_extended(t, 0)::numeric) FROM review_logs AS t",
    ]
    return [connection.execute(query).fetchall() for query in queries]


def differences(
    connection: psycopg.Connection, one: LiteralString, other: LiteralString
) -> list[Any]:
    """Rows, in full, that are in one table and not in the other."""
    return connection.execute(
        f"(TABLE {one} EXCEPT ALL TABLE {other}) UNION ALL (TABLE {other} EXCEPT ALL TABLE {one})"
    ).fetchall()


class Writers:
    """Threads that write all the time, and note in `journal` what they wrote.

    Each transaction brings the journal up to date itself, so that what it committed is in there and
    what it did not is not. Serialization failures are part of REPEATABLE READ, and tried again; any
    other error is kept in `errors`.
    """

    def __init__(self, url: str, threads: int = 3, seed: int = 1) -> None:
        self._url = url
        self._stop = threading.Event()
        self.errors: list[str] = []
        self.committed = 0
        self.far_months = True
        """Whether rows may go to months that had none, before and after the others."""
        self.may_be_partitioned = False
        """Then a row that moved to another month fails the next in line for it, and once the old
        table is gone a key alone is no longer unique: two writers may both put a shared one back,
        and only the journal tells the later. So does Postgres with any partitioned table, and the
        application has to try again."""
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(seed + number),), daemon=True)
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for(self, transactions: int) -> None:
        """Wait until that many more transactions were committed."""
        goal = self.committed + transactions
        deadline = time.monotonic() + 60
        while self.committed < goal and not self.errors and time.monotonic() < deadline:
            time.sleep(0.01)

    def _work(self, chance: random.Random) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                own = [
                    row[0]
                    for row in connection.execute(
                        "SELECT id FROM review_logs ORDER BY random() LIMIT 0"
                    )
                ]
                parents = (
                    [row[0] for row in connection.execute("SELECT id FROM actors")],
                    [row[0] for row in connection.execute("SELECT id FROM flashcards")],
                )
                shared = [
                    row[0]
                    for row in connection.execute("SELECT id FROM journal ORDER BY id LIMIT 40")
                ]
                while not self._stop.is_set():
                    self._transaction(connection, Session(connection, chance, own, shared, parents))
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _transaction(self, connection: psycopg.Connection, session: Session) -> None:
        chance = session.chance
        level = "REPEATABLE READ" if chance.random() < 0.15 else "READ COMMITTED"
        session.far_months = self.far_months
        kept = list(session.own)
        try:
            with connection.transaction():
                connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                for _ in range(chance.randint(1, 4)):
                    session.write_own()
                if chance.random() < 0.05:
                    time.sleep(0.05)
                if chance.random() < 0.5:
                    session.write_shared()
        except errors.SerializationFailure as error:
            session.own[:] = kept
            if level == "READ COMMITTED" and not (
                self.may_be_partitioned and "moved to another partition" in str(error)
            ):
                raise
        except errors.UniqueViolation as error:
            # Two writers put the same shared key back at once: as with any primary key.
            session.own[:] = kept
            is_shared = any(str(key) in str(error) for key in session.shared)
            if "journal" in str(error) and not (self.may_be_partitioned and is_shared):
                raise
        else:
            self.committed += 1


class Session:
    """What one transaction does: on keys of its own, and on keys that all writers share."""

    def __init__(
        self,
        connection: psycopg.Connection,
        chance: random.Random,
        own: list[uuid.UUID],
        shared: list[uuid.UUID],
        parents: tuple[list[uuid.UUID], list[uuid.UUID]],
    ) -> None:
        self.connection = connection
        self.chance = chance
        self.own = own
        self.shared = shared
        self.parents = parents
        self.far_months = False

    def moment(self) -> datetime:
        """A time in one of the months, now and then in a far one."""
        now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        if self.far_months and self.chance.random() < 0.02:
            return now + timedelta(days=self.chance.choice([-400, 150]))
        return now - timedelta(seconds=self.chance.randint(0, 140 * 86_400))

    def row(self, key: uuid.UUID) -> tuple[Any, ...]:
        actors, flashcards = self.parents
        return (
            key,
            self.chance.choice(flashcards),
            self.chance.choice(actors),
            self.chance.randint(1, 4),
            json.dumps({"stability": self.chance.random(), "difficulty": 3}),
            self.chance.randint(0, 10**6),
            self.moment(),
        )

    def keys(self, most: int) -> list[uuid.UUID]:
        """Some keys of its own, in the order of a sort, so that writers do not deadlock."""
        return sorted(self.chance.sample(self.own, min(most, len(self.own))))

    def write_own(self) -> None:
        """One statement out of many kinds, on keys nobody else has."""
        kinds: list[Callable[[], None]] = [
            self.insert, self.insert, self.insert_many, self.update, self.update_many, self.move,
            self.change_keys, self.delete, self.merge, self.move_by_cte,
        ]  # fmt: skip
        self.chance.choice(kinds)()

    _INSERT = (
        'INSERT INTO review_logs (id, "flashcardId", "actorId", rating, state, elapsed_time,'
        " reviewed_at) VALUES (%s, %s, %s, %s, %s, %s, %s)"
    )

    def note(self, gone: list[uuid.UUID], there: list[uuid.UUID]) -> None:
        """Bring the journal up to date for keys; `there` are read back as the writer sees them."""
        self.connection.execute("DELETE FROM journal WHERE id = ANY(%s)", [gone + there])
        self.connection.execute(
            "INSERT INTO journal SELECT * FROM review_logs WHERE id = ANY(%s)", [there]
        )

    def insert(self) -> None:
        key = uuid.UUID(int=self.chance.getrandbits(128), version=4)
        self.connection.execute(self._INSERT, self.row(key))
        self.own.append(key)
        self.note([], [key])

    def insert_many(self) -> None:
        keys = [uuid.UUID(int=self.chance.getrandbits(128), version=4) for _ in range(7)]
        rows = [value for key in keys for value in self.row(key)]
        statement = self._INSERT + ", (%s, %s, %s, %s, %s, %s, %s)" * 6
        self.connection.execute(statement, rows)
        self.own += keys
        self.note([], keys)

    def update(self) -> None:
        keys = self.keys(1)
        self.connection.execute(
            "UPDATE review_logs SET rating = 5 - rating, elapsed_time = elapsed_time + 1"
            " WHERE id = ANY(%s)",
            [keys],
        )
        self.note([], keys)

    def update_many(self) -> None:
        keys = self.keys(10)
        self.connection.execute(
            "UPDATE review_logs SET state = state || %s WHERE id = ANY(%s)",
            [json.dumps({"seen": self.chance.random()}), keys],
        )
        self.note([], keys)

    def move(self) -> None:
        keys = self.keys(3)
        self.connection.execute(
            "UPDATE review_logs SET reviewed_at = %s WHERE id = ANY(%s)", [self.moment(), keys]
        )
        self.note([], keys)

    def change_keys(self) -> None:
        keys = self.keys(2)
        fresh = [uuid.UUID(int=self.chance.getrandbits(128), version=4) for _ in keys]
        self.connection.execute(
            "UPDATE review_logs AS r SET id = n.fresh, rating = 1"
            " FROM unnest(%s::uuid[], %s::uuid[]) AS n (id, fresh) WHERE r.id = n.id",
            [keys, fresh],
        )
        self.own[:] = [key for key in self.own if key not in keys] + fresh
        self.note(keys, fresh)

    def delete(self) -> None:
        keys = self.keys(2)
        self.connection.execute("DELETE FROM review_logs WHERE id = ANY(%s)", [keys])
        self.own[:] = [key for key in self.own if key not in keys]
        self.note(keys, [])

    def merge(self) -> None:
        fresh = uuid.UUID(int=self.chance.getrandbits(128), version=4)
        keys = [*self.keys(2), fresh]
        flashcard, actor = self.row(fresh)[1:3]
        self.connection.execute(
            "MERGE INTO review_logs AS r USING unnest(%(keys)s::uuid[]) AS k (id) ON r.id = k.id"
            " WHEN MATCHED THEN UPDATE SET rating = 2, reviewed_at = %(at)s"
            ' WHEN NOT MATCHED THEN INSERT (id, "flashcardId", "actorId", rating, state,'
            " reviewed_at) VALUES (k.id, %(flashcard)s, %(actor)s, 3, '{}', %(at)s)",
            {"keys": keys, "at": self.moment(), "flashcard": flashcard, "actor": actor},
        )
        self.own.append(fresh)
        self.note([], keys)

    def move_by_cte(self) -> None:
        """Delete rows and insert them elsewhere in one statement, under other keys."""
        keys = self.keys(2)
        moved = self.connection.execute(
            "WITH gone AS (DELETE FROM review_logs WHERE id = ANY(%s) RETURNING *)"
            ' INSERT INTO review_logs ("flashcardId", "actorId", rating, state, reviewed_at)'
            ' SELECT "flashcardId", "actorId", rating, state, %s FROM gone RETURNING id',
            [keys, self.moment()],
        ).fetchall()
        fresh = [row[0] for row in moved]
        self.own[:] = [key for key in self.own if key not in keys] + fresh
        self.note(keys, fresh)

    def write_shared(self) -> None:
        """One row that other writers want too: changed, moved, deleted, or put back."""
        key = self.chance.choice(self.shared)
        kind = self.chance.choice(["update", "move", "delete", "insert"])
        if kind == "update":
            statement = "UPDATE review_logs SET rating = 1 + rating % 4 WHERE id = %(key)s"
        elif kind == "move":
            statement = "UPDATE review_logs SET reviewed_at = %(at)s WHERE id = %(key)s"
        elif kind == "delete":
            statement = "DELETE FROM review_logs WHERE id = %(key)s"
        else:
            statement = (
                "INSERT INTO review_logs (id, state, reviewed_at) SELECT %(key)s, '{}', %(at)s"
                " WHERE NOT EXISTS (SELECT FROM review_logs WHERE id = %(key)s)"
            )
        at = self.moment()
        changed = self.connection.execute(
            statement.replace("% 4", "%% 4"), {"key": key, "at": at}
        ).rowcount
        if changed:
            self.note([key], [] if kind == "delete" else [key])


def months_between(first: date, last: date) -> int:
    return 12 * (last.year - first.year) + last.month - first.month
