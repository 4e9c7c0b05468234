"""Reviews read from a real streaming replica: never less than the notes say."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from stacks.local.binaries import postgres_program
from stacks.local.identity import run_as
from tests.servers import PostgresServer, free_port, running_postgres
from tests.workers import oracle, tables, worlds
from tests.workers.programs import wait_until
from tests.workers.worlds import Stored
from workers import complexity_replica
from workers.complexity_calculation import calculate
from workers.complexity_definition import Definition
from workers.complexity_months import sum_months

pytestmark = pytest.mark.slow

MONTH = date(2024, 3, 1)
AT = datetime(2024, 3, 5)  # noqa: DTZ001 -- the column has no time zone


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def replica(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A streaming replica of the primary."""
    directory = Path(tempfile.mkdtemp(prefix="test-replica-"))
    directory.chmod(0o755)
    if primary.user:
        shutil.chown(directory, primary.user)
    server = replace(primary, directory=directory, port=free_port())
    subprocess.run(
        [
            str(postgres_program("pg_basebackup")),
            *("-D", str(server.data_directory), "-R", "-X", "stream", "-c", "fast"),
            *("-d", primary.url),
        ],
        **run_as(primary.user),
        cwd=directory,
        check=True,
        capture_output=True,
    )
    with (server.data_directory / "postgresql.auto.conf").open("a") as file:
        file.write(f"port = '{server.port}'\n")
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(directory)


@pytest.fixture
def database(primary: PostgresServer, replica: PostgresServer) -> Iterator[str]:
    """A fresh database that is on the replica too."""
    name, url = primary.create_database()
    with psycopg.connect(replica.url, autocommit=True) as standby:
        wait_until(
            lambda: (
                standby.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount == 1
            )
        )
    yield url
    primary.drop_database(name)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(tables.DDL)
        yield connection


@pytest.fixture
def stored(connection: psycopg.Connection) -> Stored:
    stored = worlds.store(connection, 3, [(0, 1, 1.0)], {0: None, 1: 0.4})
    stored.insert(connection, [oracle.Review(n % 2, n % 3, 1 + n % 4, AT) for n in range(20)])
    return stored


def on(server: PostgresServer, url: str) -> str:
    """Return the database's URL on another server."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{server.port}"))


def test_the_reviews_are_read_from_the_replica(
    connection: psycopg.Connection, stored: Stored, database: str, replica: PostgresServer
) -> None:
    assert calculate(connection, Definition(), on(replica, database)).read == 20
    stored.check(connection)
    stored.insert(connection, [oracle.Review(0, 0, 1, AT)])
    summed = sum_months(connection, Definition(), [MONTH], on(replica, database))
    assert (summed.read, summed.replica) == (21, True)
    assert calculate(connection, Definition(), on(replica, database)).read == 0
    stored.check(connection)


def test_a_replica_behind_is_waited_for(
    connection: psycopg.Connection, stored: Stored, database: str, replica: PostgresServer
) -> None:
    calculate(connection, Definition(), on(replica, database))
    with (
        psycopg.connect(replica.url, autocommit=True) as standby,
        ThreadPoolExecutor(1) as thread,
    ):
        standby.execute("SELECT pg_wal_replay_pause()")
        wait_until(
            lambda: (
                standby.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",)
            )
        )
        stored.insert(connection, [oracle.Review(1, 1, 4, AT)])
        summing = thread.submit(
            sum_months, connection, Definition(), [MONTH], on(replica, database)
        )
        wait_until(
            lambda: (
                standby.execute(
                    "SELECT FROM pg_stat_activity"
                    " WHERE application_name = 'workers complexity replica'"
                ).rowcount
                == 1
            )
        )
        assert not summing.done()
        standby.execute("SELECT pg_wal_replay_resume()")
        assert (summing.result().read, summing.result().replica) == (21, True)
    calculate(connection, Definition())
    stored.check(connection)


def test_a_replica_too_far_behind_is_left_alone(
    connection: psycopg.Connection,
    stored: Stored,
    database: str,
    replica: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(complexity_replica, "LAG_SECONDS", 0.3)
    calculate(connection, Definition(), on(replica, database))
    with psycopg.connect(replica.url, autocommit=True) as standby:
        standby.execute("SELECT pg_wal_replay_pause()")
        try:
            stored.insert(connection, [oracle.Review(1, 1, 4, AT)])
            summed = sum_months(connection, Definition(), [MONTH], on(replica, database))
        finally:
            standby.execute("SELECT pg_wal_replay_resume()")
    assert (summed.read, summed.replica) == (21, False)
    calculate(connection, Definition())
    stored.check(connection)


def test_what_is_no_replica_of_this_cluster_or_not_there_is_left_alone(
    connection: psycopg.Connection,
    stored: Stored,
    database: str,
    database_url: str,
    replica: PostgresServer,
) -> None:
    calculate(connection, Definition())
    nowhere = on(replace(replica, port=free_port()), database)
    for number, url in enumerate([database, database_url, nowhere], 21):
        stored.insert(connection, [oracle.Review(0, 0, 1, AT)])
        summed = sum_months(connection, Definition(), [MONTH], url)
        assert (summed.read, summed.replica) == (number, False)
    calculate(connection, Definition())
    stored.check(connection)
