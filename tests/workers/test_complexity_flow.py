"""The complexity's months as jobs of their own: shared by the workers, safe to lose one."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.workers import tables
from tests.workers.programs import Producer, Program, Programs, wait_until
from workers.complexity_calculation import calculate
from workers.complexity_definition import Definition

COMPLEXITY = "complexity"

pytestmark = pytest.mark.slow


def scores(connection: psycopg.Connection) -> dict[Any, float]:
    rows = connection.execute(
        "SELECT id, (properties->>'cdc_score')::float8 FROM nodes WHERE properties ? 'cdc_score'"
    )
    return dict(rows.fetchall())


def forget(connection: psycopg.Connection) -> None:
    """Take away all that calculations have left."""
    connection.execute("DROP SCHEMA workers CASCADE")
    connection.execute("UPDATE nodes SET properties = properties - 'cdc_score' - 'cdc_version'")


def parts(worker: Program) -> float:
    return worker.value("cdc_calculation_part_duration_seconds_count") or 0


@pytest.fixture
def expected(connection: psycopg.Connection) -> dict[Any, float]:
    """Seventeen months of reviews, and the scores that one calculation in one go makes of them."""
    tables.fill(connection, actors=10, cards=40, concepts=5, reviews=3400)
    calculate(connection, Definition())
    found = scores(connection)
    assert len(found) == 45
    forget(connection)
    return found


def test_two_workers_share_the_months_and_the_calculation_counts_once(
    connection: psycopg.Connection,
    programs: Programs,
    complexity_queue: Producer,
    expected: dict[Any, float],
) -> None:
    job = complexity_queue.add({})
    workers = [programs.ready(COMPLEXITY, CDC_ROWS_PER_JOB="200") for _ in range(2)]
    value = complexity_queue.wait_for(job, "completed").returnvalue
    assert scores(connection) == pytest.approx(expected, abs=1e-9)
    assert (value["reviews"], value["read"]) == (3400, 0)
    assert sum(map(parts, workers)) == 17
    durations = [
        worker.value("cdc_calculation_job_duration_seconds_count") or 0 for worker in workers
    ]
    assert sorted(durations) == [0, 1]
    read = [worker.value("cdc_calculation_reviews_read_total") or 0 for worker in workers]
    assert sum(read) == 3400
    completed = [worker.value("jobs_completed_total", queue=COMPLEXITY) or 0 for worker in workers]
    assert sum(completed) == 18
    # Its parts leave nothing behind, and the calculation itself was no failure on the way.
    counts = complexity_queue.counts()
    assert (counts["completed"], counts["failed"], counts["waiting-children"]) == (1, 0, 0)
    assert sum(worker.value("jobs_retried_total", queue=COMPLEXITY) or 0 for worker in workers) == 0


def test_a_month_whose_worker_is_killed_is_summed_up_by_the_other(
    connection: psycopg.Connection,
    programs: Programs,
    complexity_queue: Producer,
    database_url: str,
    expected: dict[Any, float],
) -> None:
    calculate(connection, Definition())  # makes our tables
    connection.execute("UPDATE review_logs SET rating = rating")
    with psycopg.connect(database_url) as holder:
        # Lets a part read its month, but not put away what it found.
        holder.execute("LOCK TABLE workers.complexity_sums IN SHARE MODE")
        doomed = programs.ready(COMPLEXITY, CDC_ROWS_PER_JOB="200")
        job = complexity_queue.add({})
        wait_until(
            lambda: (
                connection.execute(
                    "SELECT FROM pg_locks WHERE NOT granted"
                    " AND relation = 'workers.complexity_sums'::regclass"
                ).rowcount
                == 1
            )
        )
        assert complexity_queue.state(job) == "waiting-children"
        assert complexity_queue.counts()["active"] == 1
        doomed.kill()
        other = programs.ready(COMPLEXITY, CDC_ROWS_PER_JOB="200")
    complexity_queue.wait_for(job, "completed")
    assert scores(connection) == pytest.approx(expected, abs=1e-9)
    assert parts(other) == 17
    assert other.value("jobs_stalled_total", queue=COMPLEXITY) == 1
    assert other.value("cdc_calculation_reviews_read_total") == 3400
    row = connection.execute("SELECT count(*) FROM workers.complexity_runs").fetchone()
    assert row == (2,)


def fail_once(connection: psycopg.Connection) -> None:
    """Let a month fail the first time, and as sequences do not go back, only then."""
    connection.execute(
        "CREATE SEQUENCE times; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF nextval('times') = 1 THEN RAISE 'broken'; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER fail BEFORE INSERT ON workers.complexity_months FOR EACH ROW"
        " WHEN (NEW.month = '2024-03-01') EXECUTE FUNCTION fail()"
    )


def test_a_later_calculation_of_the_same_name_does_not_wait_for_a_part_that_failed(
    connection: psycopg.Connection,
    programs: Programs,
    complexity_queue: Producer,
    expected: dict[Any, float],
) -> None:
    calculate(connection, Definition())
    fail_once(connection)
    worker = programs.ready(COMPLEXITY, CDC_ROWS_PER_JOB="200")
    for run in (2, 3):
        connection.execute("UPDATE review_logs SET rating = rating")
        complexity_queue.add({}, attempts=1, jobId="complexity-first", removeOnComplete=True)
        runs = "SELECT count(*) FROM workers.complexity_runs"
        wait_until(lambda run=run, runs=runs: connection.execute(runs).fetchone() == (run,))
        wait_until(lambda: not complexity_queue.counts()["active"])
    assert scores(connection) == pytest.approx(expected, abs=1e-9)
    assert worker.value("jobs_failed_total", queue=COMPLEXITY) == 1
    assert complexity_queue.counts()["failed"] == 1


def test_what_a_part_that_fails_for_good_leaves_the_calculation_does_itself(
    connection: psycopg.Connection,
    programs: Programs,
    complexity_queue: Producer,
    expected: dict[Any, float],
) -> None:
    calculate(connection, Definition())
    connection.execute("UPDATE review_logs SET rating = rating")
    fail_once(connection)
    worker = programs.ready(COMPLEXITY, CDC_ROWS_PER_JOB="200")
    job = complexity_queue.add({}, attempts=1)
    value = complexity_queue.wait_for(job, "completed").returnvalue
    assert scores(connection) == pytest.approx(expected, abs=1e-9)
    assert 0 < value["read"] < 300
    assert worker.value("jobs_failed_total", queue=COMPLEXITY) == 1
    assert complexity_queue.counts()["failed"] == 1


def test_few_reviews_are_summed_up_in_one_go(
    connection: psycopg.Connection,
    programs: Programs,
    complexity_queue: Producer,
    expected: dict[Any, float],
) -> None:
    worker = programs.ready(COMPLEXITY)
    value = complexity_queue.wait_for(complexity_queue.add({}), "completed").returnvalue
    assert value["read"] == 3400
    assert parts(worker) == 0
    assert scores(connection) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("months", [[], ["2024-01-02"], ["soon"]])
def test_a_part_without_proper_months_is_refused(
    connection: psycopg.Connection,
    programs: Programs,
    complexity_queue: Producer,
    months: list[str],
) -> None:
    programs.ready(COMPLEXITY)
    job = complexity_queue.wait_for(complexity_queue.add({"months": months}), "failed")
    assert job.attemptsMade == 1
    assert "malformed job: months" in str(job.failedReason)
