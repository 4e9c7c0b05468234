"""The worker's runtime: rate limit, removal of finished jobs, and every way to end."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.workers import tables
from tests.workers.programs import Producer, Program, Programs, wait_until

FSRS = "fsrs-optimization"


def test_all_workers_of_a_queue_together_keep_to_the_rate_limit(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    actor = {"actorId": str(tables.add_actor(connection))}
    limit = {"RATE_LIMIT_JOBS": "5", "RATE_LIMIT_SECONDS": "1", "CONCURRENCY": "4"}
    workers = [programs.start(FSRS, **limit) for _ in range(2)]
    for worker in workers:
        worker.wait_ready()
    ids = fsrs_queue.add_all([actor] * 20)
    wait_until(lambda: fsrs_queue.counts()["completed"] == 20)
    begun = sorted(fsrs_queue.job(job_id).processedOn for job_id in ids)
    # Five a period, so 20 take three periods and more, and the eleventh after a job begins at least
    # a whole period later. (The moments are those the workers told, a little before the queue's.)
    assert begun[-1] - begun[0] >= 2000
    assert all(later - earlier >= 900 for earlier, later in zip(begun, begun[10:], strict=False))
    assert sum(worker.value("jobs_completed_total", queue=FSRS) or 0 for worker in workers) == 20
    # A worker that waits for the limit ends at once.
    fsrs_queue.add_all([actor] * 20)
    started = time.monotonic()
    assert [worker.terminate() for worker in workers] == [0, 0]
    assert time.monotonic() - started < 10


def test_jobs_whose_times_have_fractions_are_counted_and_done_as_any(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    exporter = programs.ready("exporter")
    actor = {"actorId": str(tables.add_actor(connection))}
    # As `performance.timeOrigin + performance.now()` has them, in Node.
    fsrs_queue.add_all([actor] * 4, timestamp=time.time() * 1000 - 0.5)
    wait_until(lambda: exporter.value("bullmq_queue_size", queue=FSRS) == 4)
    assert (exporter.value("bullmq_oldest_waiting_job_age_seconds", queue=FSRS) or 60) < 30
    worker = programs.ready(FSRS, CONCURRENCY="1")
    wait_until(lambda: fsrs_queue.counts()["completed"] == 4)
    assert worker.terminate() == 0
    assert exporter.terminate() == 0


def test_finished_jobs_are_removed_as_set_unless_the_producer_said_otherwise(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    actor = {"actorId": str(tables.add_actor(connection))}
    exporter = programs.ready("exporter")
    worker = programs.ready(FSRS, KEEP_COMPLETED_JOBS="3", KEEP_FAILED_JOBS="2")
    fsrs_queue.add_all([actor] * 6 + [{}] * 5)
    wait_until(lambda: worker.value("jobs_attempts_count", queue=FSRS) == 11)
    counts = fsrs_queue.counts()
    assert (counts["completed"], counts["failed"]) == (3, 2)
    gone = fsrs_queue.add(actor, removeOnComplete=True)
    wait_until(lambda: worker.value("jobs_completed_total", queue=FSRS) == 7)
    assert fsrs_queue.state(gone) == "unknown"
    assert fsrs_queue.counts()["completed"] == 3
    for state, number in (("completed", 7), ("failed", 5)):
        ever = exporter.value("bullmq_jobs_finished_total", queue=FSRS, state=state)
        assert ever == number
    assert worker.value("jobs_wait_seconds_count", queue=FSRS) == 12


def test_the_log_tells_each_job_by_its_id_in_json(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    actor = {"actorId": str(tables.add_actor(connection))}
    worker = programs.ready(FSRS, LOG_FORMAT="json")
    good, bad = fsrs_queue.add(actor), fsrs_queue.add({})
    wait_until(lambda: worker.value("jobs_attempts_count", queue=FSRS) == 2)
    lines = [json.loads(line) for line in worker.log.splitlines()]
    about = {line["job"]: line for line in lines if "job" in line}
    assert about[good]["message"] == "completed"
    assert (about[good]["queue"], about[good]["outcome"]) == (FSRS, "skipped")
    assert about[bad]["level"] == "error"
    assert about[bad]["message"].startswith("failed: malformed job: actorId")


def test_a_second_sigterm_ends_at_once_and_leaves_no_process(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    learner = tables.add_learner(connection, 400)
    worker = programs.ready(FSRS)
    with connection.transaction():
        connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        job = fsrs_queue.add({"actorId": str(learner)})
        wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
        family = psutil.Process(worker.process.pid).children(recursive=True)
        worker.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "SIGTERM: stopping" in worker.log)
        assert worker.process.poll() is None
        started = time.monotonic()
        assert worker.terminate() == 128 + signal.SIGTERM
        assert time.monotonic() - started < 5
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive
    programs.ready(FSRS)
    fsrs_queue.wait_for(job, "completed")


def catches_sigterm(program: Program) -> bool:
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


@pytest.mark.parametrize("name", [FSRS, "scheduler", "exporter"])
def test_sigterm_while_a_program_still_starts_ends_it_with_0(programs: Programs, name: str) -> None:
    program = programs.start(name)
    wait_until(lambda: catches_sigterm(program))
    assert program.terminate() == 0


def test_a_process_of_the_pool_that_is_killed_costs_its_job_an_attempt_and_is_replaced(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    learner = tables.add_learner(connection, 400)
    worker = programs.ready(FSRS)
    with connection.transaction():
        connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        job = fsrs_queue.add({"actorId": str(learner)})
        wait_until(lambda: waiting_for_lock(connection))
        row = connection.execute(
            "SELECT client_port FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ).fetchone()
        assert row is not None
        for process in psutil.Process(worker.process.pid).children(recursive=True):
            ports = {found.laddr.port for found in process.net_connections() if found.laddr}
            if row[0] in ports:
                process.kill()
        wait_until(lambda: worker.value("jobs_retried_total", queue=FSRS) == 1)
    assert fsrs_queue.wait_for(job, "completed").attemptsMade == 2
    assert worker.terminate() == 0


def waiting_for_lock(connection: psycopg.Connection) -> bool:
    # In a transaction, the view is that of the first look at it.
    connection.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return connection.execute(query).rowcount > 0
