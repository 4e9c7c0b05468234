"""Drills against real Valkey, exporter, Prometheus and Alertmanager."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from bullmq import Queue

from alerts.configuration import ScrapeTarget
from tests.alerts.conftest import MonitoringFactory
from tests.alerts.monitoring_servers import (
    ROOT,
    Exposition,
    ask_prometheus,
    exposing,
    running,
    wait_until,
)
from tests.servers import ValkeyServer, free_port
from tests.workers import tables

pytestmark = pytest.mark.slow

Drill = subprocess.Popen[str]


@pytest.fixture
def worker_port() -> int:
    return free_port()


@pytest.fixture
def fsrs_worker(
    environment: dict[str, str], database_url: str, worker_port: int, tmp_path: Path
) -> Iterator[None]:
    """The real worker of the queue, scraped."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(tables.DDL)
    settings = {
        "REDIS_URL": environment["REDIS_URL"],
        "DATABASE_URL": database_url,
        "METRICS_PORT": str(worker_port),
        "PROCESSES": "1",
    }
    command = [sys.executable, "-m", "workers", "fsrs-optimization"]
    ready = f"http://127.0.0.1:{worker_port}/readyz"
    with running(command, tmp_path / "worker.log", ready, settings):
        query = 'bullmq_workers{queue="fsrs-optimization"} > 0'
        url = environment["PROMETHEUS_URL"]
        wait_until("the worker is seen", lambda: ask_prometheus(url, query))
        yield


@pytest.fixture
def environment(
    monitoring: MonitoringFactory,
    redis_url: str,
    database_url: str,
    worker_port: int,
    tmp_path: Path,
) -> Iterator[dict[str, str]]:
    """The variables of a stack whose real exporter is scraped, and a worker where one runs."""
    port = free_port()
    exporter = {
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "METRICS_PORT": str(port),
    }
    command = [sys.executable, "-m", "workers", "exporter"]
    ready = f"http://127.0.0.1:{port}/readyz"
    with running(command, tmp_path / "exporter.log", ready, exporter):
        targets = (
            ScrapeTarget("exporter", f"127.0.0.1:{port}"),
            ScrapeTarget("fsrs-optimization", f"127.0.0.1:{worker_port}"),
        )
        stack = monitoring(targets)
        wait_until("the exporter is scraped", lambda: stack.has("bullmq_queue_size"))
        yield {
            "REDIS_URL": redis_url,
            "PROMETHEUS_URL": stack.prometheus_url,
            "ALERTMANAGER_URL": stack.alertmanager_url,
        }


@contextlib.contextmanager
def drilling(environment: dict[str, str], *arguments: str) -> Iterator[Drill]:
    process = subprocess.Popen(
        [sys.executable, "-m", "alerts", "drill", *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def drill_jobs(server: ValkeyServer) -> list[str]:
    return list(server.client().scan_iter("bull:fsrs-optimization:drill-*"))


async def add_ordinary_job(redis_url: str) -> None:
    queue = Queue("fsrs-optimization", {"connection": redis_url})  # pyright: ignore
    await queue.add("optimize", {"actorId": "x"}, {"jobId": "ordinary"})
    await queue.close()


def test_a_growing_queue_raises_its_alert_and_is_left_as_it_was(
    environment: dict[str, str], valkey_server: ValkeyServer
) -> None:
    asyncio.run(add_ordinary_job(environment["REDIS_URL"]))
    with drilling(environment, "queue-growth", "--timeout-minutes=2", "--until-resolved") as drill:
        output, errors = drill.communicate(timeout=180)
    assert drill.returncode == 0, output + errors
    assert "QueueGrowing is firing" in output
    assert "Alertmanager has it" in output
    assert output.splitlines()[-1].endswith("QueueGrowing is over")
    assert drill_jobs(valkey_server) == []
    assert valkey_server.client().lrange("bull:fsrs-optimization:wait", 0, -1) == ["ordinary"]


def test_failing_jobs_raise_their_alert_and_leave_nothing(
    environment: dict[str, str], valkey_server: ValkeyServer, fsrs_worker: None
) -> None:
    with drilling(environment, "job-failures", "--timeout-minutes=2", "--until-resolved") as drill:
        output, errors = drill.communicate(timeout=180)
    assert drill.returncode == 0, output + errors
    assert "JobFailureRateHigh is firing" in output
    assert output.splitlines()[-1].endswith("JobFailureRateHigh is over")
    assert drill_jobs(valkey_server) == []
    assert valkey_server.client().zcard("bull:fsrs-optimization:failed") == 0


def test_an_interrupted_drill_removes_its_jobs(
    environment: dict[str, str], valkey_server: ValkeyServer
) -> None:
    with drilling(environment, "queue-growth") as drill:
        wait_until("jobs are added", lambda: len(drill_jobs(valkey_server)) > 100)
        drill.send_signal(signal.SIGTERM)
        _, errors = drill.communicate(timeout=20)
    assert drill.returncode == 1
    assert errors.strip() == "interrupted"
    assert drill_jobs(valkey_server) == []


def test_jobs_of_a_killed_drill_can_be_removed(
    environment: dict[str, str], valkey_server: ValkeyServer
) -> None:
    with drilling(environment, "queue-growth") as drill:
        wait_until("jobs are added", lambda: len(drill_jobs(valkey_server)) > 100)
        drill.kill()
        drill.wait()
    left = len(drill_jobs(valkey_server))
    assert left > 100
    with drilling(environment, "--clean") as cleaning:
        output, _ = cleaning.communicate(timeout=20)
    assert output.strip() == f"removed {left} jobs"
    assert drill_jobs(valkey_server) == []


def test_an_alert_that_does_not_come_is_a_failure(
    environment: dict[str, str], valkey_server: ValkeyServer
) -> None:
    with drilling(environment, "queue-growth", "--timeout-minutes=0.03") as drill:
        _, errors = drill.communicate(timeout=30)
    assert drill.returncode == 1
    assert "did not arrive in Alertmanager within 00:01" in errors
    assert drill_jobs(valkey_server) == []


def test_failing_jobs_without_a_worker_are_refused_before_anything_is_added(
    environment: dict[str, str], valkey_server: ValkeyServer
) -> None:
    with drilling(environment, "job-failures") as drill:
        output, errors = drill.communicate(timeout=30)
    assert drill.returncode == 1
    assert "knows of no worker" in errors
    assert "adding" not in output
    assert drill_jobs(valkey_server) == []


def test_a_drill_is_refused_while_its_alert_is_there(
    monitoring: MonitoringFactory, redis_url: str, valkey_server: ValkeyServer
) -> None:
    size = 'bullmq_queue_size{queue="fsrs-optimization"}'
    series = Exposition({size: 0})
    with exposing(series) as address:
        stack = monitoring((ScrapeTarget("exporter", address),))

        def grown() -> bool:
            series.values[size] += 50
            return stack.state_in_alertmanager("QueueGrowing") == "active"

        wait_until("the alert is there", grown, 60)
        urls = {
            "REDIS_URL": redis_url,
            "PROMETHEUS_URL": stack.prometheus_url,
            "ALERTMANAGER_URL": stack.alertmanager_url,
        }
        with drilling(urls, "queue-growth") as drill:
            _, errors = drill.communicate(timeout=30)
    assert drill.returncode == 1
    assert "already" in errors
    assert drill_jobs(valkey_server) == []


def test_a_valkey_that_does_not_answer_is_told() -> None:
    urls = {
        "REDIS_URL": f"redis://:verysecret@127.0.0.1:{free_port()}/0",
        "PROMETHEUS_URL": "http://127.0.0.1:1",
        "ALERTMANAGER_URL": "http://127.0.0.1:1",
    }
    for arguments in (("queue-growth",), ("--clean",)):
        with drilling(urls, *arguments) as drill:
            _, errors = drill.communicate(timeout=30)
        assert drill.returncode == 1
        assert errors.startswith("Valkey does not answer (REDIS_URL)")
        assert "verysecret" not in errors


def test_a_monitoring_that_does_not_answer_is_told(redis_url: str) -> None:
    urls = {
        "REDIS_URL": redis_url,
        "PROMETHEUS_URL": f"http://127.0.0.1:{free_port()}",
        "ALERTMANAGER_URL": f"http://127.0.0.1:{free_port()}",
    }
    with drilling(urls, "queue-growth") as drill:
        _, errors = drill.communicate(timeout=30)
    assert drill.returncode == 1
    assert errors.startswith("Prometheus does not answer (PROMETHEUS_URL)")
