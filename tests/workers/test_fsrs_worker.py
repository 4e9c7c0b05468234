"""The FSRS worker end to end: a job through the queue, parameters in the database."""

from __future__ import annotations

import json
import math
import urllib.parse
from uuid import uuid4

import psycopg

from tests.workers import tables
from tests.workers.programs import Producer, Programs, wait_until

FSRS = "fsrs-optimization"


def test_a_job_trains_the_actor_and_everything_else_is_told_apart(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    learner = tables.add_learner(connection, 1500)
    beginner = tables.add_learner(connection, 150)
    worker = programs.ready(FSRS)
    jobs = {
        "trained": fsrs_queue.add({"actorId": str(learner)}),
        "skipped": fsrs_queue.add({"actorId": str(beginner)}),
    }
    malformed = fsrs_queue.add({"actorId": "nobody"})
    unknown = fsrs_queue.add({"actorId": str(uuid4())})

    results = {
        outcome: fsrs_queue.wait_for(job, "completed").returnvalue for outcome, job in jobs.items()
    }
    assert results["trained"]["outcome"] == "trained"
    assert results["trained"]["log_loss"] < results["trained"]["default_log_loss"]
    assert results["skipped"]["outcome"] == "skipped"
    assert results["skipped"]["reason"] == "150 reviews, 200 are needed"

    row = connection.execute(
        "SELECT fsrs_parameters, fsrs_log_loss FROM actors WHERE id = %s", [learner]
    ).fetchone()
    assert row is not None
    parameters, log_loss = row
    assert list(parameters) == ["weights"]
    assert len(parameters["weights"]) == 21
    assert all(math.isfinite(weight) for weight in parameters["weights"])
    assert math.isfinite(log_loss)
    assert log_loss == results["trained"]["log_loss"]
    untouched = connection.execute(
        "SELECT fsrs_parameters, fsrs_log_loss FROM actors WHERE id = %s", [beginner]
    ).fetchone()
    assert untouched == (None, None)

    failed = fsrs_queue.wait_for(malformed, "failed")
    assert failed.attemptsMade == 1
    assert failed.failedReason is not None
    assert failed.failedReason.startswith("malformed job: actorId: Input should be a valid UUID")
    # An unknown actor has no reviews, and no row to write to.
    refused = fsrs_queue.wait_for(unknown, "failed")
    assert refused.attemptsMade == 1
    assert refused.failedReason is not None
    assert refused.failedReason.startswith("there is no actor")

    wait_until(lambda: worker.value("jobs_failed_total", queue=FSRS) == 2)
    assert worker.value("jobs_completed_total", queue=FSRS) == 2
    assert worker.value("jobs_retried_total", queue=FSRS) == 0
    assert worker.value("fsrs_optimization_jobs_processed_total", outcome="trained") == 1
    assert worker.value("fsrs_optimization_jobs_processed_total", outcome="skipped") == 1
    assert worker.value("fsrs_optimization_job_duration_seconds_count") == 2
    assert worker.value("fsrs_optimization_reviews_read_total") == 1650


def test_every_series_is_there_at_zero_from_the_start_and_sigterm_ends_an_idle_worker_with_0(
    connection: psycopg.Connection, programs: Programs
) -> None:
    fsrs, complexity = programs.start(FSRS), programs.start("complexity")
    for worker, series in (
        (fsrs, "fsrs_optimization_job_duration_seconds_count"),
        (complexity, "cdc_calculation_job_duration_seconds_count"),
    ):
        worker.wait_ready()
        assert worker.get("/healthz") == (200, "ok\n")
        samples = worker.samples()
        assert samples[series, frozenset()] == 0
        for counter in ("completed", "failed", "retried", "stalled", "returned"):
            labels = frozenset({("queue", worker.name)})
            assert samples[f"jobs_{counter}_total", labels] == 0
    for outcome in ("trained", "kept_default", "skipped"):
        assert fsrs.value("fsrs_optimization_jobs_processed_total", outcome=outcome) == 0
    assert fsrs.terminate() == 0
    assert complexity.terminate() == 0


def test_a_worker_without_its_servers_is_alive_but_not_ready_and_says_what_is_missing(
    programs: Programs,
) -> None:
    worker = programs.start(
        FSRS, DATABASE_URL="postgresql://nobody:secret-word@127.0.0.1:1/none", LOG_FORMAT="json"
    )
    assert worker.get("/healthz")[0] == 200
    wait_until(lambda: worker.get("/readyz")[1].startswith("postgres: connection failed"))
    assert worker.get("/readyz")[0] == 503
    assert worker.terminate() == 0
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert any("postgres is not there" in line["message"] for line in lines)
    assert "secret-word" not in worker.log


def test_sigterm_lets_the_running_job_end_and_exits_0(
    connection: psycopg.Connection,
    programs: Programs,
    fsrs_queue: Producer,
    database_url: str,
    redis_url: str,
) -> None:
    learner = tables.add_learner(connection, 400)
    worker = programs.ready(FSRS)
    with connection.transaction():
        # The job waits for the reviews' table, which we hold.
        connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        job = fsrs_queue.add({"actorId": str(learner)})
        wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
        worker.process.terminate()
        wait_until(lambda: "SIGTERM: stopping" in worker.log)
        late = fsrs_queue.add({"actorId": str(learner)})
    assert worker.process.wait(30) == 0
    assert fsrs_queue.state(job) == "completed"
    assert fsrs_queue.state(late) == "waiting"
    for url in (database_url, redis_url):
        password = urllib.parse.urlsplit(url).password
        assert password
        assert password not in worker.log


def test_a_job_that_outlives_the_deadline_goes_back_to_the_queue_whole(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    learner = tables.add_learner(connection, 400)
    worker = programs.ready(FSRS, DRAIN_SECONDS="1")
    with connection.transaction():
        connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        job = fsrs_queue.add({"actorId": str(learner)})
        wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
        assert worker.terminate() == 0
    assert fsrs_queue.state(job) in ("waiting", "delayed")
    programs.ready(FSRS)
    assert fsrs_queue.wait_for(job, "completed").attemptsMade == 1
