"""Very many jobs, some of them poison, with workers killed; and a network that is cut."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
import valkey
from psycopg import sql

from tests.servers import PostgresServer
from tests.soak import times
from tests.workers import tables
from tests.workers.network import network_to, through
from tests.workers.programs import Producer, Program, Programs, programs_on, wait_until
from workers.database import ensure_bookkeeping

FSRS = "fsrs-optimization"
JOBS = times(10_000, most=100_000)
POISON = JOBS // 20

pytestmark = pytest.mark.slow


def make_fragile(connection: psycopg.Connection, actor: UUID) -> None:
    """Let every attempt to store a result of this actor fail in the database."""
    ensure_bookkeeping(connection)
    connection.execute(
        sql.SQL(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.actor_id = {} THEN RAISE 'poison'; END IF; RETURN NEW; END $$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON workers.fsrs_runs"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        ).format(str(actor))
    )


def doers(redis_url: str, state: str) -> Counter[str]:
    """Return how many jobs in that state each worker has done, as the queue knows."""
    client = valkey.Valkey.from_url(redis_url, decode_responses=True)
    pipeline = client.pipeline(transaction=False)
    ids: Any = client.zrange(f"bull:{FSRS}:{state}", 0, -1)
    for job_id in ids:
        pipeline.hget(f"bull:{FSRS}:{job_id}", "pb")
    return Counter(pipeline.execute())


def counted(worker: Program) -> tuple[float, float]:
    samples = worker.samples()
    labels = frozenset({("queue", FSRS)})
    return samples["jobs_completed_total", labels], samples["jobs_failed_total", labels]


@pytest.mark.timeout(900)
def test_of_very_many_jobs_with_poison_and_killed_workers_each_ends_and_every_count_agrees(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer, redis_url: str
) -> None:
    fragile = tables.add_actor(connection)
    make_fragile(connection, fragile)
    actors = [
        *(tables.add_learner(connection, 210, seed) for seed in range(3)),
        *(tables.add_learner(connection, 3, seed) for seed in range(97)),
    ]
    poison: list[Any] = [{"actorId": str(fragile)}, {"actorId": "nobody"}, {}, [], 7]
    data: list[Any] = [{"actorId": str(actors[n % len(actors)])} for n in range(JOBS - POISON)]
    for number in range(POISON):
        data.insert(number * 20, poison[number % len(poison)])
    settings = {
        "CONCURRENCY": "8",
        "KEEP_COMPLETED_JOBS": str(JOBS),
        "KEEP_FAILED_JOBS": str(JOBS),
    }
    exporter = programs.ready("exporter")
    for start in range(0, JOBS, 1000):
        fsrs_queue.add_all(data[start : start + 1000], backoff={"type": "exponential", "delay": 20})
    workers = [programs.start(FSRS, **settings) for _ in range(2)]

    def finished() -> float:
        counts = fsrs_queue.counts()
        return counts["completed"] + counts["failed"]

    killed: list[tuple[Program, tuple[float, float]]] = []
    for part in (1, 2):
        wait_until(lambda part=part: finished() > JOBS * part / 3, 600)
        victim = workers.pop(0)
        killed.append((victim, counted(victim)))
        victim.kill()
        workers.append(programs.start(FSRS, **settings))
    wait_until(lambda: finished() == JOBS, 600)

    counts = fsrs_queue.counts()
    assert counts["completed"] == JOBS - POISON
    assert counts["failed"] == POISON
    assert sum(counts.values()) == JOBS
    # The exporter tells what the queue holds, and what it ever finished, to the unit.
    for state in ("completed", "failed"):
        told = exporter.value("bullmq_jobs", queue=FSRS, state=state)
        ever = exporter.value("bullmq_jobs_finished_total", queue=FSRS, state=state)
        assert told == ever == counts[state]
    # Each worker that lives has counted what the queue says it did; one that was killed had, when
    # last asked, counted no more than that.
    completed, failed = doers(redis_url, "completed"), doers(redis_url, "failed")
    for worker in workers:
        name = worker.worker_name
        # The counts are taken a moment after the queue's.
        time.sleep(1)
        assert counted(worker) == (completed[name], failed[name])
        ended = worker.value("jobs_attempts_count", queue=FSRS)
        assert ended == completed[name] + failed[name]
        processed = sum(
            worker.value("fsrs_optimization_jobs_processed_total", outcome=outcome) or 0
            for outcome in ("trained", "kept_default", "skipped")
        )
        assert processed == completed[name]
        assert worker.value("jobs_active", queue=FSRS) == 0
    for victim, last in killed:
        assert last[0] > 0
        name = victim.worker_name
        assert last <= (completed[name], failed[name])
    assert sum(completed.values()) + sum(failed.values()) == JOBS
    assert exporter.value("bullmq_jobs_stalled", queue=FSRS) == 0
    assert all(worker.terminate() == 0 for worker in workers)


def test_workers_come_back_after_a_network_cut_of_20_seconds_and_no_job_is_lost(
    connection: psycopg.Connection,
    database_url: str,
    redis_url: str,
    fsrs_queue: Producer,
    postgres_server: PostgresServer,
    tmp_path: Path,
) -> None:
    learners = [tables.add_learner(connection, 250, seed) for seed in range(60)]
    with (
        network_to(postgres_server.port) as to_postgres,
        network_to(urlsplit(redis_url).port or 0) as to_valkey,
        programs_on(
            through(database_url, to_postgres), through(redis_url, to_valkey), tmp_path
        ) as programs,
    ):
        workers = [programs.ready(FSRS) for _ in range(2)]
        fsrs_queue.add_all([{"actorId": str(learner)} for learner in learners])
        wait_until(lambda: fsrs_queue.counts()["completed"] >= 5)
        for network in (to_postgres, to_valkey):
            network.cut()
        time.sleep(0.5)
        before = fsrs_queue.counts()["completed"]
        assert before < len(learners)
        time.sleep(20)
        assert fsrs_queue.counts()["completed"] == before
        assert workers[0].get("/healthz")[0] == 200
        assert workers[0].get("/readyz")[0] == 503
        fsrs_queue.add({"actorId": str(learners[0])})
        for network in (to_postgres, to_valkey):
            network.mend()
        wait_until(lambda: fsrs_queue.counts()["completed"] == len(learners) + 1, 60)
        counts = fsrs_queue.counts()
        assert sum(counts.values()) == counts["completed"]
        for worker in workers:
            worker.wait_ready()
            assert worker.terminate() == 0
    row = connection.execute("SELECT count(*) FROM workers.fsrs_runs").fetchone()
    assert row == (len(learners),)
