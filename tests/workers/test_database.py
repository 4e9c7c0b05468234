"""Which errors of Postgres pass by themselves, on real errors."""

from __future__ import annotations

import psycopg
import pytest

from workers.database import Database, is_passing, is_unavailable


def test_a_statement_prepared_before_its_table_changed_is_worth_another_connection(
    connection: psycopg.Connection, database_url: str
) -> None:
    query = "SELECT * FROM flashcards"
    connection.execute(query, prepare=True)
    with psycopg.connect(database_url) as other:
        other.execute("ALTER TABLE flashcards ADD COLUMN another integer")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as error:
        connection.execute(query, prepare=True)
    assert is_passing(error.value)
    assert not is_unavailable(error.value)


@pytest.mark.parametrize(
    ("statement", "passes"),
    [
        ("SELECT FROM review_logs_that_was", True),
        ("SET lock_timeout = '10ms'; LOCK TABLE actors", True),
        ("SELECT 1 / 0", False),
        ("SELECT missing FROM actors", False),
        ("SELECT FROM missing.actors", True),
    ],
)
def test_what_passes_is_told_from_what_does_not(
    connection: psycopg.Connection, database_url: str, statement: str, passes: bool
) -> None:
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE actors IN ACCESS SHARE MODE")
        with pytest.raises(psycopg.Error) as error:
            connection.execute(statement.encode())
    assert is_passing(error.value) is passes


def test_a_connection_that_was_ended_is_unavailable_and_opened_again(database_url: str) -> None:
    database = Database(database_url, "test")
    with psycopg.connect(database_url, autocommit=True) as other:
        pid = database.connection().info.backend_pid
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(psycopg.Error) as error:
        database.connection().execute("SELECT 1")
    assert is_unavailable(error.value)
    database.discard()
    row = database.connection().execute("SHOW timezone").fetchone()
    assert row == ("UTC",)
    database.discard()
