"""The exporter: agrees with the queues and the partitioning, and never tells what was before."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import valkey

from tests.servers import running_postgres, running_valkey
from tests.workers import tables
from tests.workers.network import network_to, through
from tests.workers.programs import Producer, Program, Programs, programs_on, wait_until
from workers.queue_metrics import BACKLOG, STATES, count_workers

FSRS = "fsrs-optimization"

VIEW = """
CREATE SCHEMA partitioning;
CREATE TABLE partitioning.steps (LIKE pg_catalog.pg_class);
CREATE VIEW partitioning.progress AS
SELECT 'review_logs'::text AS table_name, 'backfill'::text AS phase, 18::bigint AS months,
    7::bigint AS months_live, 200000::bigint AS rows_estimated, 80000::bigint AS rows_copied,
    12::bigint AS changes_pending, 3::bigint AS months_ahead, NULL::bigint AS default_rows,
    timestamptz '2026-01-02 03:04:05+00' AS updated_at
"""


def states(exporter: Program, queue: str) -> dict[str, float]:
    return {
        dict(labels)["state"]: value
        for (name, labels), value in exporter.samples().items()
        if name == "bullmq_jobs" and dict(labels)["queue"] == queue
    }


def test_a_queue_nobody_has_used_yet_is_there_at_zero(
    database_url: str, programs: Programs
) -> None:
    exporter = programs.ready("exporter")
    for queue in (FSRS, "complexity"):
        assert exporter.value("bullmq_queue_size", queue=queue) == 0
        assert states(exporter, queue) == dict.fromkeys(STATES, 0)
        assert exporter.value("bullmq_workers", queue=queue) == 0
    assert exporter.value("valkey_up") == exporter.value("postgres_up") == 1
    assert not [name for name, _ in exporter.samples() if name.startswith("partitioning")]
    assert exporter.terminate() == 0


def test_the_counts_agree_with_the_queue_in_every_state(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer, redis_url: str
) -> None:
    exporter = programs.ready("exporter")
    worker = programs.ready(FSRS, CONCURRENCY="1")
    failed = fsrs_queue.add({})
    fsrs_queue.wait_for(failed, "failed")
    actor = {"actorId": "00000000-0000-4000-8000-000000000001"}
    connection.execute("INSERT INTO actors (id) VALUES (%s)", [actor["actorId"]])
    for _ in range(2):
        fsrs_queue.wait_for(fsrs_queue.add(actor), "completed")
    with connection.transaction():
        connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        fsrs_queue.add(actor)
        wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
        for _ in range(3):
            fsrs_queue.add(actor)
        for _ in range(4):
            fsrs_queue.add(actor, delay=3_600_000)
        for _ in range(5):
            fsrs_queue.add(actor, priority=7)
        expected = {
            "waiting": 3, "active": 1, "delayed": 4, "prioritized": 5, "waiting-children": 0,
            "paused": 0, "completed": 2, "failed": 1,
        }  # fmt: skip
        assert states(exporter, FSRS) == expected
        counts: dict[str, Any] = fsrs_queue.counts()
        assert {state: counts.get(state, 0) for state in STATES} == expected
        size = exporter.value("bullmq_queue_size", queue=FSRS)
        assert size == sum(expected[state] for state in BACKLOG) == 13
        assert exporter.value("bullmq_workers", queue=FSRS) == 1
        assert exporter.value("bullmq_queue_paused", queue=FSRS) == 0
        age = exporter.value("bullmq_oldest_waiting_job_age_seconds", queue=FSRS)
        assert age is not None
        assert 0 < age < 60
        fsrs_queue.pause()
        assert exporter.value("bullmq_queue_paused", queue=FSRS) == 1
        assert exporter.value("bullmq_queue_size", queue=FSRS) == 13


def test_another_prefix_is_another_queue(
    database_url: str, programs: Programs, fsrs_queue: Producer
) -> None:
    fsrs_queue.add({})
    exporter = programs.ready("exporter", QUEUE_PREFIX="{other}")
    assert exporter.value("bullmq_queue_size", queue=FSRS) == 0


def test_workers_are_counted_by_name_whichever_library_they_use() -> None:
    names = [
        "bull:complexity:w:a", "bull:complexity:w:a", "bull:complexity:w:b",
        "bull:Y29tcGxleGl0eQ==:w:node", "bull:complexity", "bull:complexity-2:w:a", "",
    ]  # fmt: skip
    assert count_workers("bull", ["complexity", "complexity-2", "x"], names) == {
        "complexity": 4,
        "complexity-2": 1,
        "x": 0,
    }


def test_the_partitioning_s_progress_is_told_by_table_and_phase(
    database_url: str, programs: Programs
) -> None:
    exporter = programs.ready("exporter")
    assert exporter.value("partitioning_months", table="review_logs") is None
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(VIEW)
        assert exporter.value("partitioning_phase", table="review_logs", phase="backfill") == 1
        found = {
            name: value
            for (name, labels), value in exporter.samples().items()
            if labels == frozenset({("table", "review_logs")})
        }
        assert found == {
            "partitioning_months": 18,
            "partitioning_months_live": 7,
            "partitioning_rows_estimated": 200000,
            "partitioning_rows_copied": 80000,
            "partitioning_changes_pending": 12,
            "partitioning_months_ahead": 3,
            "partitioning_updated_timestamp_seconds": 1767323045,
        }
        # A view that cannot be read is an error, but the server is there.
        connection.execute(
            "DROP VIEW partitioning.progress;"
            "CREATE VIEW partitioning.progress AS SELECT 1 AS another"
        )
        assert exporter.value("postgres_up") == 1
        assert exporter.value("exporter_scrape_errors_total", source="postgres") == 1
        assert exporter.value("partitioning_months", table="review_logs") is None


def test_all_queues_are_discovered_and_a_scrape_is_one_round_trip(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    for number in range(20):
        Producer(redis_url, f"queue-{number}").add({})
    server = valkey.Valkey.from_url(redis_url)
    server.hset("bull:not-a:queue:meta", "paused", "1")
    server.set("bull:another:meta", "no hash")
    with (
        network_to(urlsplit(redis_url).port or 0) as network,
        programs_on(database_url, through(redis_url, network), tmp_path) as programs,
    ):
        exporter = programs.ready("exporter", QUEUES="[]", DISCOVERY_SECONDS="0.5")
        wait_until(lambda: exporter.value("bullmq_queue_size", queue="queue-7") == 1)
        found = {
            dict(labels)["queue"]
            for name, labels in exporter.samples()
            if name == "bullmq_queue_size"
        }
        assert found == {f"queue-{number}" for number in range(20)}
        Producer(redis_url, "late").add({})
        wait_until(lambda: exporter.value("bullmq_queue_size", queue="late") == 1)
    with (
        network_to(urlsplit(redis_url).port or 0) as network,
        programs_on(database_url, through(redis_url, network), tmp_path) as programs,
    ):
        names = [f"queue-{number}" for number in range(20)]
        exporter = programs.ready("exporter", QUEUES=json.dumps(names))
        exporter.samples()  # the connection is made
        before = network.exchanges
        for _ in range(5):
            exporter.samples()
        assert network.exchanges - before == 5


def test_jobs_whose_worker_vanished_are_told_until_another_takes_them(
    connection: psycopg.Connection, programs: Programs, fsrs_queue: Producer
) -> None:
    exporter = programs.ready("exporter")
    worker = programs.ready(FSRS)
    actor = tables.add_actor(connection)
    with connection.transaction():
        connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        job = fsrs_queue.add({"actorId": str(actor)})
        wait_until(lambda: worker.value("jobs_active", queue=FSRS) == 1)
        assert exporter.value("bullmq_jobs_stalled", queue=FSRS) == 0
        worker.kill()
        wait_until(lambda: exporter.value("bullmq_jobs_stalled", queue=FSRS) == 1)
    programs.ready(FSRS)
    fsrs_queue.wait_for(job, "completed")
    assert exporter.value("bullmq_jobs_stalled", queue=FSRS) == 0
    assert exporter.value("bullmq_jobs_finished_total", queue=FSRS, state="completed") == 1
    assert exporter.value("bullmq_jobs_finished_total", queue=FSRS, state="failed") == 0


@pytest.mark.slow
def test_a_server_that_is_gone_or_hangs_is_told_at_once_and_nothing_stale(tmp_path: Path) -> None:
    with running_postgres() as postgres, running_valkey() as server:
        _, database_url = postgres.create_database()
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(VIEW)
        with programs_on(database_url, server.url, tmp_path) as programs:
            Producer(server.url, FSRS).add({})
            exporter = programs.ready("exporter")
            assert exporter.value("bullmq_queue_size", queue=FSRS) == 1
            assert exporter.value("partitioning_months", table="review_logs") == 18

            server.stop()
            postgres.stop("immediate")
            started = time.monotonic()
            samples = exporter.samples()
            assert time.monotonic() - started < 2
            assert samples["valkey_up", frozenset()] == 0
            assert samples["postgres_up", frozenset()] == 0
            assert not [
                name
                for name, _ in samples
                if name.startswith(("partitioning", "bullmq")) and "scrape" not in name
            ]
            assert exporter.get("/readyz")[0] == 200

            server.start()
            postgres.start()
            samples = exporter.samples()
            assert samples["valkey_up", frozenset()] == samples["postgres_up", frozenset()] == 1
            assert exporter.value("bullmq_queue_size", queue=FSRS) == 1

            # A server that accepts and does not answer.
            client = valkey.Valkey.from_url(server.url)
            client.execute_command("CLIENT", "PAUSE", "4000", "ALL")
            started = time.monotonic()
            assert exporter.value("valkey_up") == 0
            assert time.monotonic() - started < 3
            assert exporter.terminate() == 0
