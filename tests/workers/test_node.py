"""The queues shared with an application in Node: npm's bullmq on the other side, both ways."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.workers import tables
from tests.workers.node_queue import NodeQueue, node_queue
from tests.workers.programs import Producer, Program, Programs, wait_until
from workers.queue_metrics import STATES

FSRS = "fsrs-optimization"

pytestmark = pytest.mark.slow


def told(exporter: Program) -> dict[str, float]:
    return {
        dict(labels)["state"]: value
        for (name, labels), value in exporter.samples().items()
        if name == "bullmq_jobs" and dict(labels)["queue"] == FSRS
    }


def test_jobs_of_a_node_producer_are_done_and_the_counts_agree_in_every_state(
    connection: psycopg.Connection, programs: Programs, redis_url: str, tmp_path: Path
) -> None:
    learners = [tables.add_learner(connection, 300, seed) for seed in range(3)]
    beginner = {"actorId": str(tables.add_actor(connection))}
    exporter = programs.ready("exporter")
    with node_queue(FSRS, redis_url, tmp_path / "node.log") as queue:
        options = {"attempts": 3, "backoff": {"type": "exponential", "delay": 50}}
        ids = queue.ask(
            add=[
                *(
                    {"name": "optimize", "data": {"actorId": str(learner)}, "opts": options}
                    for learner in learners
                ),
                {"name": "optimize", "data": {"actorId": 7}, "opts": options},
                {"name": "optimize", "data": beginner, "opts": {**options, "delay": 200}},
                {"name": "optimize", "data": beginner, "opts": {**options, "priority": 3}},
            ]
        )
        assert queue.counts() == told(exporter)
        worker = programs.ready(FSRS, CONCURRENCY="1")
        wait_until(lambda: queue.counts()["completed"] == 5 and queue.counts()["failed"] == 1)
        producer = Producer(redis_url, FSRS)
        for job_id in ids[:3]:
            assert producer.job(job_id).returnvalue["outcome"] in ("trained", "kept_default")
        assert (producer.job(ids[3]).failedReason or "").startswith("malformed job: actorId")
        rows = connection.execute("SELECT FROM workers.fsrs_runs WHERE outcome <> 'skipped'")
        assert rows.rowcount == 3
        # What Node reads as the queue's own count is what our workers counted.
        assert (queue.ask(metrics="completed"), queue.ask(metrics="failed")) == (5, 1)

        with connection.transaction():
            connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
            queue.ask(add=[{"name": "optimize", "data": beginner}])
            wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
            queue.ask(
                add=[
                    *[{"name": "optimize", "data": beginner}] * 3,
                    *[{"name": "optimize", "data": beginner, "opts": {"delay": 3600000}}] * 4,
                    *[{"name": "optimize", "data": beginner, "opts": {"priority": 9}}] * 5,
                ]
            )
            counts = queue.counts()
            assert counts == told(exporter)
            assert set(counts) == set(STATES)
            assert (counts["active"], counts["waiting"], counts["delayed"]) == (1, 3, 4)
            assert (counts["prioritized"], counts["completed"], counts["failed"]) == (5, 5, 1)
            producer.pause()
            assert queue.counts() == told(exporter)


def test_a_node_worker_does_what_the_scheduler_adds(
    connection: psycopg.Connection, programs: Programs, redis_url: str, tmp_path: Path
) -> None:
    due = {str(tables.add_learner(connection, 200 + number, number)) for number in range(3)}
    programs.ready("scheduler", COMPLEXITY_CRON="* * * * * *")
    with (
        node_queue(FSRS, redis_url, tmp_path / "fsrs.log") as fsrs,
        node_queue("complexity", redis_url, tmp_path / "complexity.log") as complexity,
    ):
        fsrs.ask(work={"concurrency": 2})
        complexity.ask(work={"concurrency": 1})
        wait_until(lambda: due <= {job["data"]["actorId"] for job in fsrs.ask(worked=True)})
        assert {job["name"] for job in fsrs.ask(worked=True)} == {"optimize"}
        # Each job of the cron pattern is appointed by the Node worker when it takes the last one.
        wait_until(lambda: len(by_pattern(complexity)) >= 3)
        ids = by_pattern(complexity)
        assert len(set(ids)) == len(ids)
        assert {job["name"] for job in complexity.ask(worked=True)} == {"calculate"}
        assert complexity.counts()["failed"] == 0


def by_pattern(queue: NodeQueue) -> list[str]:
    return [job["id"] for job in queue.ask(worked=True) if job["id"].startswith("repeat:")]
