"""Workers that are killed, and servers that go away under them: no job is lost or done twice."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from tests.servers import running_postgres, running_valkey
from tests.workers import tables
from tests.workers.programs import Producer, Programs, programs_on, wait_until

FSRS = "fsrs-optimization"

pytestmark = pytest.mark.slow


def trained_actors(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM workers.fsrs_runs").fetchone()
    assert row is not None
    return row[0]


def test_a_job_whose_worker_is_killed_is_finished_once_by_another(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    learner = tables.add_learner(connection, 400)
    first = programs.ready(FSRS)
    with connection.transaction():
        connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        job = fsrs_queue.add({"actorId": str(learner)})
        wait_until(lambda: first.value("jobs_active", queue=FSRS) == 1)
        first.kill()
        second = programs.ready(FSRS)
        assert fsrs_queue.state(job) == "active"
    finished = fsrs_queue.wait_for(job, "completed")
    assert finished.returnvalue["outcome"] == "trained"
    assert trained_actors(connection) == 1
    assert second.value("jobs_stalled_total", queue=FSRS) == 1
    assert second.value("jobs_completed_total", queue=FSRS) == 1
    # The killed worker's processes are gone with their statements.
    wait_until(
        lambda: (
            connection.execute(
                "SELECT FROM pg_stat_activity WHERE application_name = 'workers fsrs-optimization'"
            ).rowcount
            == 2
        )  # one watches, one works
    )


def test_the_table_of_reviews_may_be_swapped_for_another_under_the_worker(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    learner = tables.add_learner(connection, 400)
    worker = programs.ready(FSRS)
    fsrs_queue.wait_for(fsrs_queue.add({"actorId": str(learner)}), "completed")
    connection.execute(
        "CREATE TABLE other (LIKE review_logs INCLUDING DEFAULTS) PARTITION BY RANGE (reviewed_at);"
        "CREATE TABLE other_default PARTITION OF other DEFAULT;"
        "INSERT INTO other SELECT * FROM review_logs"
    )
    with connection.transaction():
        connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        waiting = fsrs_queue.add({"actorId": str(learner)})
        wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
        connection.execute(
            "ALTER TABLE review_logs RENAME TO review_logs_old;"
            "ALTER TABLE other RENAME TO review_logs"
        )
    after = fsrs_queue.add({"actorId": str(learner)})
    for job in (waiting, after):
        assert fsrs_queue.wait_for(job, "completed").returnvalue["reviews"] == 400
    # Gone altogether for a moment, the table is looked for again before the attempt counts.
    connection.execute("ALTER TABLE review_logs RENAME TO gone")
    job = fsrs_queue.add({"actorId": str(learner)})
    wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
    connection.execute("ALTER TABLE gone RENAME TO review_logs")
    assert fsrs_queue.wait_for(job, "completed").attemptsMade == 1
    assert worker.value("jobs_retried_total", queue=FSRS) == 0


def test_workers_come_back_after_postgres_and_after_valkey_restarted(tmp_path: Path) -> None:
    with running_postgres() as postgres, running_valkey() as valkey:
        _, database_url = postgres.create_database()
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(tables.DDL)
            learners = [tables.add_learner(connection, 300, seed) for seed in range(4)]
        with programs_on(database_url, valkey.url, tmp_path) as programs:
            queue = Producer(valkey.url, FSRS)
            worker = programs.ready(FSRS)
            job = queue.add({"actorId": str(learners[0])})
            queue.wait_for(job, "completed")

            postgres.stop("immediate")
            job = queue.add({"actorId": str(learners[1])})
            wait_until(lambda: "waiting for the database" in worker.log)
            wait_until(lambda: worker.get("/readyz")[0] == 503)
            postgres.start()
            # It waited instead of using its attempts up.
            assert queue.wait_for(job, "completed").attemptsMade == 1
            assert worker.value("jobs_retried_total", queue=FSRS) == 0

            valkey.stop()
            wait_until(lambda: "valkey: " in worker.get("/readyz")[1])
            valkey.start()
            queue.wait_for(queue.add({"actorId": str(learners[2])}), "completed")

            # And with a job in hand: what it computed is reported when Valkey is back.
            with psycopg.connect(database_url) as connection:
                connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
                job = queue.add({"actorId": str(learners[3])})
                wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
                valkey.stop()
                back = threading.Timer(2, valkey.start)
                back.start()
            back.join()
            queue.wait_for(job, "completed")
            wait_until(lambda: worker.get("/readyz")[0] == 200)
            assert worker.terminate() == 0
            with psycopg.connect(database_url, autocommit=True) as connection:
                assert trained_actors(connection) == 4
