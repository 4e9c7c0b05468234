from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest

from history.loading import LOAD_LOCK, load
from history.rows import Rows
from history.simulation import simulate
from history.sources import HistoryError, Simulated
from migrations import schema
from tests.history.helpers import EMPTY, END, Silent, load_simulated, numbers, run, start, value
from tests.history.tables import DDL, PARTITIONED_DDL

MONTHS = """
DO $$ BEGIN
    FOR month IN 1..6 LOOP
        EXECUTE format(
            'CREATE TABLE review_logs_%s PARTITION OF review_logs FOR VALUES FROM (%L) TO (%L)',
            month, make_date(2025, month, 1), make_date(2025, month, 1) + interval '1 month');
    END LOOP;
END $$
"""


def unwanted() -> Iterator[Rows]:
    pytest.fail("rows were asked for")
    yield


def test_loaded_rows_are_counted_and_told(connection: psycopg.Connection) -> None:
    reporter = Silent()
    source = Simulated(actors=4, reviews=500, months=6)
    outcome = load(connection, simulate(source, END), reporter)
    found = numbers(connection)
    assert (outcome.outcome, outcome.rows, outcome.actors) == ("loaded", 500, 4)
    assert (outcome.flashcards, outcome.nodes, outcome.edges) == (
        found["flashcards"],
        found["nodes"],
        found["edges"],
    )
    assert reporter.reviews == 500
    assert outcome.rows_per_second > 0


def test_statistics_are_there_after_a_load(connection: psycopg.Connection) -> None:
    load_simulated(connection)
    estimate = "SELECT reltuples FROM pg_class WHERE relname = 'review_logs'"
    assert value(connection, estimate) == 2_000


def test_a_second_load_keeps_what_is_there(connection: psycopg.Connection) -> None:
    first = load_simulated(connection)
    second = load(connection, unwanted(), Silent())
    assert (first.outcome, second.outcome) == ("loaded", "kept")
    assert (second.rows, second.digest) == (first.rows, first.digest)


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO actors (id) VALUES (gen_random_uuid())",
        "INSERT INTO flashcards VALUES (gen_random_uuid(), 'https://example.org/1')",
        "INSERT INTO nodes VALUES (gen_random_uuid(), 'Concept', '{}')",
    ],
)
def test_a_row_in_any_table_is_reason_to_change_nothing(
    connection: psycopg.Connection, insert: str
) -> None:
    connection.execute(insert)  # pyright: ignore[reportArgumentType, reportCallIssue]
    before = numbers(connection)
    outcome = load(connection, unwanted(), Silent())
    assert outcome.outcome == "kept"
    assert insert.split()[2] in outcome.message
    assert numbers(connection) == before


def test_a_failure_on_the_way_leaves_the_tables_empty(connection: psycopg.Connection) -> None:
    def broken() -> Iterator[Rows]:
        yield from simulate(Simulated(actors=3, reviews=100, months=2), END)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        load(connection, broken(), Silent())
    assert numbers(connection) == EMPTY


def test_a_partitioned_table_is_loaded_month_by_month(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(PARTITIONED_DDL)
        connection.execute(MONTHS)
        outcome = load_simulated(connection)
        assert (outcome.outcome, outcome.rows) == ("loaded", 2_000)
        assert value(connection, "SELECT count(DISTINCT tableoid) FROM review_logs") == 6


def test_a_row_without_a_partition_is_refused_and_named(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(PARTITIONED_DDL)
        connection.execute(MONTHS)
        connection.execute("DROP TABLE review_logs_3")
        with pytest.raises(
            HistoryError, match=r"review_logs: .*2025-03-.*make the months"
        ) as raised:
            load_simulated(connection)
        assert "\n" not in str(raised.value)
        assert numbers(connection) == EMPTY


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ('ALTER TABLE review_logs DROP COLUMN "previousState"', 'review_logs."previousState"'),
        ("DROP TABLE edges", "edges"),
    ],
)
def test_a_schema_not_upgraded_is_refused_and_named(
    connection: psycopg.Connection, change: str, named: str
) -> None:
    connection.execute(change)  # pyright: ignore[reportArgumentType, reportCallIssue]
    with pytest.raises(HistoryError) as raised:
        load(connection, unwanted(), Silent())
    assert str(raised.value) == (
        f"the database lacks {named}: run `python -m migrations upgrade` first"
    )


LIMITS = """
DO $$ BEGIN
    EXECUTE format('ALTER ROLE %I SET statement_timeout = 500', current_user);
    EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = 500', current_user);
END $$;
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE TRIGGER slow AFTER INSERT ON actors EXECUTE FUNCTION dawdle()
"""


def test_limits_of_the_role_do_not_cut_a_load_short(
    connection: psycopg.Connection, database_url: str
) -> None:
    def slowly() -> Iterator[Rows]:
        time.sleep(1)
        yield from simulate(Simulated(actors=3, reviews=100, months=2), END)

    connection.execute(LIMITS)
    with psycopg.connect(database_url, autocommit=True) as limited:
        assert load(limited, slowly(), Silent()).outcome == "loaded"


def test_a_load_waits_for_another_one_and_then_keeps_its_rows(
    connection: psycopg.Connection, database_url: str
) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [LOAD_LOCK])
        process = start(database_url, "simulate", "--reviews=300", "--actors=3", "--json")
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(connection, waiting, 1)
        other.execute("INSERT INTO actors (id) VALUES (gen_random_uuid())")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(output)["outcome"] == "kept"
    assert "another load is running" in errors
    assert numbers(connection)["actors"] == 1


def test_of_two_loads_at_once_one_loads_and_one_keeps(
    connection: psycopg.Connection, database_url: str
) -> None:
    processes = [
        start(database_url, "simulate", "--reviews=3000", f"--seed={seed}", "--json")
        for seed in (1, 2)
    ]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(result["outcome"] for result in results) == ["kept", "loaded"]
    assert len({result["digest"] for result in results}) == 1
    assert numbers(connection)["review_logs"] == 3_000


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 1)])
def test_a_load_stopped_halfway_leaves_nothing_and_can_be_run_again(
    connection: psycopg.Connection, database_url: str, number: int, code: int
) -> None:
    process = start(database_url, "simulate", "--reviews=400000", "--json")
    assert process.stderr is not None
    assert "of 400,000 reviews" in process.stderr.readline()
    os.kill(process.pid, number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert output == ""
    assert "Traceback" not in errors
    if number == signal.SIGTERM:
        assert errors.splitlines()[-1] == "stopped, nothing was changed: run it again to load"
    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'history'"
    )
    wait_until(connection, others, 0)
    assert numbers(connection) == EMPTY
    again = run(database_url, "simulate", "--reviews=1000", "--actors=10", "--json")
    assert json.loads(again.stdout)["outcome"] == "loaded"


def wait_until(connection: psycopg.Connection, query: str, expected: int) -> None:
    deadline = time.monotonic() + 30
    while value(connection, query) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tables_made_by_the_schema_upgrade_are_loaded(database_url: str) -> None:
    schema.upgrade(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert load_simulated(connection).outcome == "loaded"
        assert numbers(connection)["review_logs"] == 2_000


def test_tables_are_found_by_the_search_path(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA application; SET search_path = application")
        connection.execute(DDL)
        assert load_simulated(connection).outcome == "loaded"
