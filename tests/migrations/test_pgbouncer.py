"""Clients behind a pgbouncer in transaction mode, while the table they use is swapped."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from tests import debian
from tests.migrations import node_application
from tests.migrations.databases import fingerprint
from tests.migrations.node_application import reviews, running
from tests.migrations.test_typeorm import expect_told, is_partitioned, phases_and_back
from tests.servers import PgBouncer, running_pgbouncer
from tests.soak import times

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 * times(1))]

SERVER_CONNECTIONS = 3
CLIENTS = 3


@pytest.fixture
def pgbouncer(database_url: str) -> Iterator[PgBouncer]:
    try:
        tree = debian.unpacked("pgbouncer", "pgbouncer")
    except debian.UnavailableError as error:
        pytest.skip(f"pgbouncer cannot be had: {error}")
    with running_pgbouncer(
        tree.program("pgbouncer"), tree.environment, database_url, SERVER_CONNECTIONS
    ) as pool:
        yield pool


class Clients:
    """Threads with a pool of psycopg's, each with reviews of its own that it knows by heart."""

    def __init__(self, url: str) -> None:
        self.errors: list[str] = []
        self.transactions = 0
        self.known: dict[str, tuple[int, datetime]] = {}
        """Rating and time of each review that was committed."""
        self._running = True
        # Prepared statements are a session's, and a session is not kept here.
        self._pool = ConnectionPool(
            url, min_size=CLIENTS, kwargs={"prepare_threshold": None}, open=False
        )
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(seed),), daemon=True)
            for seed in range(CLIENTS)
        ]

    def __enter__(self) -> Clients:
        self._pool.open()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        for thread in self._threads:
            thread.join(60)
        self._pool.close()

    def _work(self, chance: random.Random) -> None:
        own: dict[str, tuple[int, datetime]] = {}
        try:
            with self._pool.connection() as connection:
                # Not the cards that the application makes, and deletes.
                parents = connection.execute(
                    "SELECT f.id, a.id FROM flashcards AS f CROSS JOIN actors AS a"
                    """ WHERE f."activityPubId" NOT LIKE '%/own/%'"""
                ).fetchall()
            while self._running:
                # A connection for each transaction, as a web server does.
                with self._pool.connection() as connection:
                    changed = self._transaction(connection, chance, own, chance.choice(parents))
                own = changed
                self.transactions += 1
                time.sleep(chance.random() / 100)
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        self.known |= own

    def _transaction(
        self,
        connection: psycopg.Connection,
        chance: random.Random,
        own: dict[str, tuple[int, datetime]],
        parents: tuple[uuid.UUID, uuid.UUID],
    ) -> dict[str, tuple[int, datetime]]:
        """Read some, write one new, change one, delete one; return what is then there."""
        after = dict(own)
        keys = chance.sample(sorted(own), min(len(own), 3))
        found = connection.execute(
            "SELECT id::text, rating, reviewed_at FROM review_logs WHERE id = ANY(%s::uuid[])",
            [keys],
        ).fetchall()
        assert {row[0]: row[1:] for row in found} == {key: own[key] for key in keys}
        now = datetime.now(UTC).replace(tzinfo=None)
        moment = now - timedelta(seconds=chance.randint(0, 140 * 86_400))
        key = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        connection.execute(
            'INSERT INTO review_logs (id, "flashcardId", "actorId", rating, state, elapsed_time,'
            " reviewed_at) VALUES (%s, %s, %s, 1, %s, 0, %s)",
            [key, *parents, Jsonb({"stability": 1, "difficulty": 5}), moment],
        )
        after[key] = (1, moment)
        if keys:
            rating = chance.randint(1, 4)
            connection.execute(
                "UPDATE review_logs SET rating = %s, reviewed_at = %s WHERE id = %s",
                [rating, moment, keys[0]],
            )
            after[keys[0]] = (rating, moment)
        if len(keys) > 1 and len(own) > 50:
            connection.execute("DELETE FROM review_logs WHERE id = %s", [keys[1]])
            del after[keys[1]]
        return after


def statistics(pool: PgBouncer, url: str) -> dict[str, dict[str, int]]:
    """What the pool tells of our database: its transactions, and its connections."""
    given = conninfo_to_dict(url)
    console = make_conninfo(pool.url_for(url), dbname="pgbouncer")
    with psycopg.connect(console, autocommit=True) as connection:
        cursor = psycopg.ClientCursor(connection, row_factory=dict_row)
        result: dict[str, dict[str, int]] = {}
        for what in ("stats", "pools"):
            cursor.execute(f"SHOW {what}".encode())
            result[what] = next(row for row in cursor if row["database"] == given["dbname"])
        return result


def test_clients_of_a_pool_see_no_error_in_any_phase_and_lose_nothing(
    database_url: str, pgbouncer: PgBouncer, client_program: Path
) -> None:
    node_application.create(database_url)
    before = reviews(database_url)
    url = pgbouncer.url_for(database_url)
    with running(client_program, url, PREPARED="0") as application:
        # It has claimed its reviews, then others may come.
        application.wait_for(1)
        with Clients(url) as clients:
            phases_and_back(database_url, application)
            code = application.stop()
    assert clients.errors == []
    assert (application.errors, code) == ([], 0)
    assert is_partitioned(database_url)

    pool = statistics(pgbouncer, database_url)
    assert pool["stats"]["total_xact_count"] > clients.transactions + application.actions
    assert 0 < pool["pools"]["sv_idle"] + pool["pools"]["sv_used"] <= SERVER_CONNECTIONS

    found = reviews(database_url)
    written = {key: row for key, row in found.items() if key in clients.known}
    known = {key: (row["rating"], row["reviewedAt"]) for key, row in written.items()}
    assert known == clients.known
    expect_told({**before, **written}, application, database_url)


def test_what_changes_the_schema_refuses_to_go_through_a_pool(
    database_url: str, pgbouncer: PgBouncer
) -> None:
    node_application.create(database_url)
    before = fingerprint(database_url)
    for arguments in (("migrations", "upgrade"), ("migrations.partition", "run")):
        completed = subprocess.run(
            [sys.executable, "-m", *arguments],
            env={**os.environ, "DATABASE_URL": pgbouncer.url_for(database_url)},
            capture_output=True,
            text=True,
        )
        assert completed.returncode == 1
        assert "is a pool of connections" in completed.stderr
        assert completed.stderr.count("\n") == 1
    assert fingerprint(database_url) == before
