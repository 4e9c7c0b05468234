"""`python -m workers install`: what the owner of the tables makes for the workers' role."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.servers import PostgresServer
from workers.complexity_calculation import calculate
from workers.complexity_definition import Definition
from workers.complexity_state import is_tracked
from workers.database import Database
from workers.installation import InstallationError, install, installation_sql

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def role(postgres_server: PostgresServer, database_url: str) -> Iterator[str]:
    """A role that may come in and nothing else."""
    name = f"workers_{secrets.token_hex(4)}"
    database = str(conninfo_to_dict(database_url)["dbname"])
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'simple'").format(sql.Identifier(name))
        )
        yield name
    with psycopg.connect(
        postgres_server.url_for("postgres", database, postgres_server.password), autocommit=True
    ) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


@pytest.fixture
def role_url(postgres_server: PostgresServer, database_url: str, role: str) -> str:
    return postgres_server.url_for(role, str(conninfo_to_dict(database_url)["dbname"]), "simple")


def command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers", "install", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
    )


def test_a_role_that_owns_nothing_can_calculate_afterwards_and_changes_are_noted(
    connection: psycopg.Connection, database_url: str, role: str, role_url: str
) -> None:
    for _ in range(2):
        done = command(database_url, "--role", role, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["role"] == role
    database = Database(role_url, "test")
    calculate(database.connection(), Definition())
    assert is_tracked(database.connection())
    database.discard()


def test_what_it_prints_does_the_same(
    connection: psycopg.Connection, role: str, role_url: str
) -> None:
    connection.execute(installation_sql(role).encode())
    database = Database(role_url, "test")
    calculate(database.connection(), Definition())
    assert is_tracked(database.connection())
    database.discard()
    printed = command("postgresql://nobody@127.0.0.1:1/none", "--sql", "--role", role)
    assert printed.stdout == installation_sql(role)


def test_who_does_not_own_the_tables_is_refused(
    connection: psycopg.Connection, role: str, role_url: str
) -> None:
    refused = command(role_url)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"role {role} does not own review_logs, test_")
    assert refused.stderr.endswith("connect as the owner\n")
    assert connection.execute("SELECT to_regnamespace('workers')").fetchone() == (None,)


def test_without_the_schema_it_says_what_to_run_first(
    database_url: str, postgres_server: PostgresServer
) -> None:
    refused = command(database_url)
    assert refused.returncode == 1
    assert "run `python -m migrations upgrade`" in refused.stderr


def test_an_unknown_role_is_named(connection: psycopg.Connection, database_url: str) -> None:
    refused = command(database_url, "--role", "nobody in particular")
    assert refused.returncode == 1
    assert refused.stderr == (
        "there is no role nobody in particular: run `python -m migrations roles` first\n"
    )


def test_a_table_that_stays_busy_is_given_up_on_and_writers_hardly_wait(
    connection: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.installation.PAUSE_SECONDS", 0.01)
    said: list[str] = []
    with psycopg.connect(database_url) as writer:
        writer.execute("LOCK TABLE review_logs IN ROW EXCLUSIVE MODE")
        with pytest.raises(InstallationError, match="was busy in 2 attempts"):
            install(Database(database_url, "test"), attempts=2, progress=said.append)
        assert len(said) == 2
    assert install(Database(database_url, "test")).outcome == "installed"
