"""Several connections for one calculation."""

from __future__ import annotations

import threading
from datetime import date

import psycopg
import pytest
from psycopg import sql

from tests.workers import tables
from workers.complexity_calculation import calculate
from workers.complexity_definition import Definition
from workers.complexity_months import even_batches
from workers.complexity_sessions import Sessions

SIZE = {"actors": 20, "cards": 40, "concepts": 5, "reviews": 3000}


def backend(connection: psycopg.Connection) -> int:
    return connection.info.backend_pid


def test_a_calculation_on_three_connections_is_that_on_one(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.complexity_calculation.ROWS_PER_STATEMENT", 200)
    tables.fill(connection, **SIZE)
    kept = "SELECT id, (properties -> 'cdc_score')::float8 FROM nodes ORDER BY id"
    first = calculate(connection, Definition())
    one = connection.execute(kept).fetchall()
    connection.execute("DROP SCHEMA workers CASCADE")
    connection.execute("UPDATE nodes SET properties = properties - 'cdc_score'")
    second = calculate(connection, Definition(), connections=3)
    three = connection.execute(kept).fetchall()
    assert second.read == first.read == SIZE["reviews"]
    assert second.scored == first.scored == SIZE["cards"] + SIZE["concepts"]
    assert [node for node, _ in three] == [node for node, _ in one]
    for (_, a), (_, b) in zip(one, three, strict=True):
        assert a == pytest.approx(b, abs=1e-9)


def test_work_is_done_at_the_same_time_on_connections_of_its_own(
    connection: psycopg.Connection,
) -> None:
    connection.execute("SET timezone = 'Asia/Tokyo'; SET statement_timeout = 54321")
    together = threading.Barrier(3)

    def work(session: psycopg.Connection) -> psycopg.Connection:
        together.wait(20)
        settings = session.execute(
            "SELECT current_setting('timezone'), current_setting('statement_timeout')"
        ).fetchone()
        assert settings == ("Asia/Tokyo", "54321ms")
        return session

    with Sessions(connection, 3) as sessions:
        found = [future.result() for future in [sessions.submit(work) for _ in range(3)]]
        assert len({backend(session) for session in found}) == 3
    assert [session for session in found if not session.closed] == [connection]


def test_where_the_server_allows_no_more_connections_one_does(
    connection: psycopg.Connection,
) -> None:
    role = sql.Identifier(connection.info.user)
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD NULL").format(role))
    with Sessions(connection, 3) as sessions:
        assert sessions.count == 1
        assert sessions.submit(backend).result() == backend(connection)


def test_months_are_shared_evenly() -> None:
    months = {date(2024, month, 1): 100 for month in range(1, 13)}
    assert [len(batch) for batch in even_batches(months, 500, 2)] == [3, 3, 3, 3]
    assert [len(batch) for batch in even_batches(months, 600, 2)] == [6, 6]
    assert [len(batch) for batch in even_batches(months, 5000, 1)] == [12]
    assert even_batches({}, 500, 2) == []
    assert even_batches({date(2024, 1, 1): 0}, 500, 2) == [[date(2024, 1, 1)]]
