"""The scheduler: one job for each due actor, the complexity first and by cron, nothing twice."""

from __future__ import annotations

import time

import psycopg
import pytest

from tests.workers import tables
from tests.workers.programs import Producer, Program, Programs, wait_until
from workers.database import SCHEDULER_LOCK
from workers.scheduler import find_due

FSRS = "fsrs-optimization"


def rounds(*schedulers: Program) -> None:
    """Wait until each scheduler has ended two more rounds."""
    for scheduler in schedulers:
        for _ in range(2):
            last = scheduler.value("scheduler_last_success_timestamp_seconds")
            wait_until(
                lambda scheduler=scheduler, last=last: (
                    scheduler.value("scheduler_last_success_timestamp_seconds") != last
                )
            )


def added(schedulers: list[Program], queue: str) -> float:
    return sum(
        scheduler.value("scheduler_jobs_added_total", queue=queue) or 0 for scheduler in schedulers
    )


def test_two_schedulers_add_one_job_for_each_due_actor_and_one_first_complexity_job(
    connection: psycopg.Connection,
    programs: Programs,
    fsrs_queue: Producer,
    complexity_queue: Producer,
) -> None:
    due = [tables.add_learner(connection, 200 + number, number) for number in range(3)]
    tables.add_learner(connection, 199)
    schedulers = [programs.start("scheduler") for _ in range(2)]
    for scheduler in schedulers:
        scheduler.wait_ready()
    rounds(*schedulers)
    counts = fsrs_queue.counts()
    assert counts["waiting"] == 3
    assert {fsrs_queue.job(f"fsrs-{actor}").data["actorId"] for actor in due} == set(map(str, due))
    counts = complexity_queue.counts()
    assert counts["waiting"] == 1
    # The next one by the cron pattern waits for its time.
    assert counts["delayed"] == 1
    assert added(schedulers, "complexity") == 1
    assert added(schedulers, FSRS) == 3
    assert [scheduler.terminate() for scheduler in schedulers] == [0, 0]


def test_reviews_that_no_job_reads_make_nothing_due(connection: psycopg.Connection) -> None:
    """Else the jobs would be added again and again: those without an actor, a card or a time."""
    connection.execute(
        'ALTER TABLE review_logs ALTER "actorId" DROP NOT NULL,'
        ' ALTER "flashcardId" DROP NOT NULL, ALTER reviewed_at DROP NOT NULL'
    )
    for change in (
        '"actorId" = NULL',
        '"flashcardId" = NULL',
        "reviewed_at = NULL",
        "reviewed_at = 'infinity'",
    ):
        actor = tables.add_learner(connection, 250)
        connection.execute(
            f'UPDATE review_logs SET {change} WHERE "actorId" = %s'.encode(), [actor]
        )
    due = find_due(connection, 200, 50, starting=True)
    assert (due.actors, due.complexity) == ([], False)
    actor = tables.add_learner(connection, 250)
    due = find_due(connection, 200, 50, starting=True)
    assert (due.actors, due.complexity) == ([actor], True)


def test_a_scheduler_that_never_gets_its_turn_tells_of_no_success(
    connection: psycopg.Connection, programs: Programs
) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", [SCHEDULER_LOCK])
    scheduler = programs.ready("scheduler")
    time.sleep(3)
    assert scheduler.value("scheduler_last_success_timestamp_seconds") == 0
    connection.execute("SELECT pg_advisory_unlock(%s)", [SCHEDULER_LOCK])
    rounds(scheduler)
    assert scheduler.terminate() == 0


def test_an_actor_is_due_again_only_with_enough_new_reviews(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    actor = tables.add_learner(connection, 300)
    scheduler = programs.ready("scheduler", FSRS_MIN_NEW_REVIEWS="10")
    worker = programs.ready(FSRS)

    def optimized_reviews() -> int:
        row = connection.execute("SELECT max(reviews) FROM workers.fsrs_runs").fetchone()
        assert row is not None
        return row[0] or 0

    wait_until(lambda: optimized_reviews() == 300)
    rounds(scheduler)
    assert worker.value("jobs_completed_total", queue=FSRS) == 1
    repeat = (
        'INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time)'
        ' SELECT "flashcardId", "actorId", 3, state, 0 FROM review_logs'
        ' WHERE "actorId" = %s LIMIT %s'
    )
    connection.execute(repeat, [actor, 9])
    rounds(scheduler)
    assert worker.value("jobs_completed_total", queue=FSRS) == 1
    connection.execute(repeat, [actor, 1])
    wait_until(lambda: optimized_reviews() == 310)
    assert fsrs_queue.counts()["waiting"] == 0


@pytest.mark.slow
def test_the_cron_pattern_makes_the_worker_compute_and_appoints_the_next_job(
    connection: psycopg.Connection, programs: Programs, complexity_queue: Producer
) -> None:
    tables.fill(connection, actors=4, cards=10, concepts=3, reviews=400)
    # Six fields: every second.
    scheduler = programs.ready("scheduler", COMPLEXITY_CRON="* * * * * *")
    worker = programs.ready("complexity")
    wait_until(lambda: (worker.value("jobs_completed_total", queue="complexity") or 0) >= 3)
    row = connection.execute(
        "SELECT count(*), count(*) FILTER"
        " (WHERE (properties->>'cdc_score')::float8 BETWEEN 0 AND 1) FROM nodes"
    ).fetchone()
    assert row == (13, 13)
    assert (worker.value("cdc_calculation_job_duration_seconds_count") or 0) >= 3
    # All at the first calculation, none at the others: nothing had changed.
    assert worker.value("cdc_calculation_reviews_read_total") == 400
    assert scheduler.terminate() == 0
    assert worker.terminate() == 0
    # The worker appointed the following job when it took the last one.
    assert complexity_queue.counts()["delayed"] == 1


@pytest.mark.slow
def test_a_changed_cron_pattern_replaces_the_appointed_job(
    connection: psycopg.Connection, programs: Programs, complexity_queue: Producer
) -> None:
    scheduler = programs.ready("scheduler", COMPLEXITY_CRON="0 4 * * *")
    rounds(scheduler)
    assert scheduler.terminate() == 0
    scheduler = programs.ready("scheduler", COMPLEXITY_CRON="30 5 * * *")
    rounds(scheduler)
    assert complexity_queue.counts()["delayed"] == 1
    assert "T05:30Z" in scheduler.log


def test_without_its_tables_the_scheduler_keeps_trying_and_counts_the_errors(
    database_url: str, programs: Programs, fsrs_queue: Producer
) -> None:
    scheduler = programs.ready("scheduler")
    wait_until(lambda: (scheduler.value("scheduler_errors_total") or 0) >= 1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(tables.DDL)
        tables.add_learner(connection, 200)
    wait_until(lambda: fsrs_queue.counts()["waiting"] == 1)
