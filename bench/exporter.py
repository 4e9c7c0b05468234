"""A scrape of many queues: how long it takes, and how many round trips to Valkey it is."""

from __future__ import annotations

import asyncio
import http.client
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import valkey
from bullmq import Queue

from tests.servers import running_postgres, running_valkey
from tests.workers.network import network_to, through

ROOT = Path(__file__).resolve().parent.parent
JOBS_A_QUEUE = 50
WARM_UP = 50
COUNTED = 100


@dataclass(frozen=True)
class Scrape:
    """What scrapes took, whole (over HTTP) and of it for Valkey, in milliseconds."""

    queues: int
    median: float
    p99: float
    valkey_median: float
    valkey_p99: float
    round_trips: float
    commands: dict[str, float]


async def _fill(redis_url: str, queues: int) -> None:
    for number in range(queues):
        queue = Queue(f"queue-{number}", {"connection": redis_url})  # pyright: ignore
        job = {"name": "job", "data": {}, "opts": {}}
        delayed = {"name": "job", "data": {}, "opts": {"delay": 3_600_000}}
        await queue.addBulk([job] * JOBS_A_QUEUE + [delayed] * 5)
        await queue.close()


def _calls(client: valkey.Valkey) -> dict[str, int]:
    stats: dict[str, dict[str, int]] = client.info("commandstats")  # pyright: ignore
    return {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in stats.items()}


def _scrape(connection: http.client.HTTPConnection) -> tuple[float, float]:
    started = time.perf_counter()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    whole = time.perf_counter() - started
    inner = re.search(r"^bullmq_scrape_duration_seconds (\S+)", text, re.MULTILINE)
    return whole * 1000, float(inner[1]) * 1000 if inner else math.nan


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


@contextmanager
def _exporter(
    database_url: str, redis_url: str, directory: str
) -> Iterator[http.client.HTTPConnection]:
    log = Path(directory) / "log"
    program = subprocess.Popen(
        [sys.executable, "-m", "workers", "exporter"],
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "METRICS_PORT": "0",
            "QUEUES": "[]",
        },
        cwd=ROOT,
        stderr=log.open("wb"),
    )
    try:
        while not (found := re.search(r"metrics on http://(\S+)/metrics", log.read_text())):
            time.sleep(0.05)
        connection = http.client.HTTPConnection(found[1])
        time.sleep(1)  # the queues are discovered
        for _ in range(WARM_UP):
            _scrape(connection)
        yield connection
    finally:
        program.terminate()
        program.wait()


def scrape(queues: int, scrapes: int) -> Scrape:
    """Measure so many scrapes of so many queues, each with waiting and delayed jobs."""
    with (
        running_postgres() as postgres,
        running_valkey() as server,
        network_to(server.port) as network,
        tempfile.TemporaryDirectory() as directory,
    ):
        _, database_url = postgres.create_database()
        asyncio.run(_fill(server.url, queues))
        workers = [
            valkey.Valkey.from_url(server.url, client_name=f"bull:queue-{number}:w:host-1")
            for number in range(queues)
        ]
        for worker in workers:
            worker.ping()
        with _exporter(database_url, server.url, directory) as connection:
            times = [_scrape(connection) for _ in range(scrapes)]
        # Counted apart, for what counts slows down.
        client = server.client()
        with _exporter(database_url, through(server.url, network), directory) as connection:
            before, exchanges = _calls(client), network.exchanges
            for _ in range(COUNTED):
                _scrape(connection)
            after, exchanges = _calls(client), network.exchanges - exchanges
    whole, inner = [entry[0] for entry in times], [entry[1] for entry in times]
    return Scrape(
        queues,
        statistics.median(whole),
        _p99(whole),
        statistics.median(inner),
        _p99(inner),
        exchanges / COUNTED,
        {
            name: (calls - before.get(name, 0)) / COUNTED
            for name, calls in after.items()
            if name in ("eval_ro", "client|list", "scan") and calls != before.get(name, 0)
        },
    )
