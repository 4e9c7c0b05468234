"""The application's own client (TypeORM and node-postgres) at work while its table is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.migrations import node_application
from tests.migrations.node_application import (
    Application,
    Row,
    differences,
    reviews,
    running,
)
from tests.soak import times

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

_EVERY_ACTION = {
    *("save", "saveNow", "saveMany", "insert", "update", "move", "moveMany", "increment"),
    *("delete", "remove", "find", "findWithRelations", "history", "averages", "transaction"),
    *("repeatableRead", "rolledBack", "locked", "newCard", "deleteCard"),
    *("preparedFind", "preparedInsert", "preparedMove"),
}


def partition(url: str, *arguments: str) -> dict[str, object]:
    """Run the engine's command line as an operator does; return its result."""
    completed = subprocess.run(
        [sys.executable, "-m", "migrations.partition", *arguments, "--attempts=400", "--json"],
        env={**os.environ, "DATABASE_URL": url},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return json.loads(completed.stdout.splitlines()[-1])


def phases_and_back(url: str, application: Application) -> None:
    """All phases by the command line, there, back, and there again; the application goes on."""
    there_and_back = [("verify",), ("rollback",), ("verify",), ("cutover",)]
    application.wait_for(120)
    for arguments in (
        ("run", "--until", "sync"),
        ("run", "--until", "cutover"),
        *there_and_back * times(1),
        ("run", "--until", "retire", "--hold", "0"),
    ):
        partition(url, *arguments)
        application.wait_for(120)
        assert application.errors == []


def is_partitioned(url: str) -> bool:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT relkind = 'p' FROM pg_class WHERE oid = 'review_logs'::regclass"
        ).fetchone()
    return row is not None and row[0]


def expect_told(before: dict[str, Row], application: Application, url: str) -> None:
    """What the application committed, and what it left alone, is in the database; nothing else."""
    untouched = {key: row for key, row in before.items() if key not in application.claimed}
    found = reviews(url)
    assert {key: row for key, row in found.items() if key in untouched} == untouched
    rest = {key: row for key, row in found.items() if key not in untouched}
    assert differences(application.rows, rest) == []


@pytest.mark.timeout(300 * times(1))
@pytest.mark.parametrize("database", ["database_url", "postgres15_url"])
def test_the_application_sees_no_error_in_any_phase_and_finds_what_it_wrote(
    database: str, client_program: Path, request: pytest.FixtureRequest
) -> None:
    url: str = request.getfixturevalue(database)
    node_application.create(url)
    before = reviews(url)
    with running(client_program, url) as application:
        phases_and_back(url, application)
        code = application.stop()
    assert (application.errors, code) == ([], 0)
    assert application.counts.keys() >= _EVERY_ACTION
    assert is_partitioned(url)
    expect_told(before, application, url)


def test_the_client_tells_what_it_finds_otherwise_than_it_wrote_it(
    database_url: str, client_program: Path
) -> None:
    node_application.create(database_url)
    with running(client_program, database_url) as application:
        application.wait_for(20)
        with psycopg.connect(database_url) as connection:
            # Alone, also among the rows that the client locked to change them next: or else
            # this statement, or one of the client's own, may be the victim of a deadlock.
            connection.execute("LOCK TABLE review_logs IN EXCLUSIVE MODE")
            connection.execute("UPDATE review_logs SET elapsed_time = -1")
        while not application.errors:
            application.wait_for(1)
        assert application.stop() == 1
    assert application.errors[0]["event"] == "error"
    assert "elapsedTime" in application.errors[0]["message"]


def test_the_client_tells_an_error_of_the_database(database_url: str, client_program: Path) -> None:
    node_application.create(database_url)
    with running(client_program, database_url) as application:
        application.wait_for(20)
        with psycopg.connect(database_url) as connection:
            connection.execute("ALTER TABLE review_logs RENAME TO reviews")
        while not application.errors:
            application.wait_for(1)
        assert application.stop() == 1
    assert application.errors[0]["code"] == "42P01"
