"""No-op jobs a second: two of our worker processes, against one of the stock Python worker."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bullmq import Queue, Worker
from pydantic import BaseModel

from tests.node import install, node
from tests.servers import running_postgres, running_valkey

ROOT = Path(__file__).resolve().parent.parent
QUEUE = "no-op"
CONCURRENCY = 100
BATCH = 1000
WARM_UP = 1000
PATIENCE = 120
STOCK = "stock Python worker, 1 process"
TWO_OF_OURS = "ours, 2 processes"


class Nothing(BaseModel):
    """The data of a no-op job."""


@dataclass(frozen=True)
class Done:
    """The result of a no-op job."""

    done: bool = True


def do_nothing(_connection: Any) -> Done:
    """Be called as the work of a job is, in a process of the pool."""
    return Done()


def our_worker() -> None:
    """Run the workers' own runtime on no-op jobs."""
    from prometheus_client import Histogram

    from workers import runtime, settings
    from workers.metrics import new_registry

    registry = new_registry()
    task = runtime.Task(
        queue=QUEUE,
        payload=Nothing,
        function="bench.jobs:do_nothing",
        arguments=lambda _: {},
        count=lambda _: None,
        duration=Histogram("no_op_seconds", "Time of a no-op job.", registry=registry),
        preload=["workers.pool", "bench.jobs"],
    )
    runtime.run(task, settings.load(settings.WorkerSettings), registry)


def stock_worker() -> None:
    """Run the library's own worker on no-op jobs, as its documentation shows."""

    async def process(_job: Any, _token: str) -> dict[str, bool]:
        return {"done": True}

    async def run() -> None:
        Worker(QUEUE, process, {"connection": os.environ["REDIS_URL"], "concurrency": CONCURRENCY})  # pyright: ignore
        print("ready", flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


@contextmanager
def _ours(processes: int, environment: dict[str, str], directory: Path) -> Iterator[None]:
    settings = {
        "CONCURRENCY": str(CONCURRENCY),
        "PROCESSES": "1",
        "METRICS_PORT": "0",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
    }
    logs = [directory / f"worker-{number}.log" for number in range(processes)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", "from bench.jobs import our_worker; our_worker()"],
            env={**environment, **settings},
            cwd=ROOT,
            stderr=log.open("wb"),
        )
        for log in logs
    ]
    try:
        for log in logs:
            _until(lambda log=log: "taking jobs" in log.read_text())
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


@contextmanager
def _stock(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", "from bench.jobs import stock_worker; stock_worker()"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _ask(process, None)
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _node(environment: dict[str, str]) -> Iterator[None]:
    directory = install("queues", ROOT / "tests" / "workers" / "node")
    process = subprocess.Popen(
        [str(node().node), "queue.mjs", QUEUE, "bull"],
        env={**node().environment, "REDIS_URL": environment["REDIS_URL"]},
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _ask(process, {"work": {"concurrency": CONCURRENCY}})
        yield
    finally:
        process.kill()
        process.wait()


def _ask(process: subprocess.Popen[str], command: dict[str, Any] | None) -> None:
    if process.stdin is not None:
        print(json.dumps(command), file=process.stdin, flush=True)
    if process.stdout is not None:
        process.stdout.readline()


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker does not get on")
        time.sleep(0.02)


async def _fill(queue: Queue, jobs: int) -> None:
    await queue.pause()
    for start in range(0, jobs, BATCH):
        count = min(BATCH, jobs - start)
        job = {"name": "nothing", "data": {}, "opts": {"removeOnComplete": {"count": 1000}}}
        await queue.addBulk([job] * count)


async def _let_through(queue: Queue, jobs: int) -> float:
    """Return the seconds from letting go a queue of so many jobs to its being empty."""
    await _fill(queue, jobs)
    started = time.perf_counter()
    await queue.resume()
    while any((await queue.getJobCounts("waiting", "active", "paused")).values()):
        await asyncio.sleep(0.01)
    return time.perf_counter() - started


async def _measure(redis_url: str, jobs: int, contender: Callable[[], Any]) -> float:
    """Return the jobs a second of one contender."""
    queue = Queue(QUEUE, {"connection": redis_url})  # pyright: ignore
    try:
        with contender():
            await _let_through(queue, WARM_UP)
            return jobs / await _let_through(queue, jobs)
    finally:
        await queue.close()


def ratio(rates: dict[str, list[float]]) -> float:
    """Return how many times the stock worker's rate two of our processes have, by medians."""
    return statistics.median(rates[TWO_OF_OURS]) / statistics.median(rates[STOCK])


def no_op(jobs: int, rounds: int) -> dict[str, list[float]]:
    """Return the jobs a second of each contender in each round, interleaved."""
    rates: dict[str, list[float]] = {}
    with running_postgres() as postgres, running_valkey() as valkey:
        _, database_url = postgres.create_database()
        environment = {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": valkey.url}
        with tempfile.TemporaryDirectory() as directory:
            contenders: dict[str, Callable[[], Any]] = {
                STOCK: lambda: _stock(environment),
                "ours, 1 process": lambda: _ours(1, environment, Path(directory)),
                TWO_OF_OURS: lambda: _ours(2, environment, Path(directory)),
                "npm's Node worker, 1 process": lambda: _node(environment),
            }
            for _ in range(rounds):
                for name, contender in contenders.items():
                    valkey.client().flushall()
                    rate = asyncio.run(_measure(valkey.url, jobs, contender))
                    rates.setdefault(name, []).append(rate)
                    print(f"  {name}: {rate:,.0f} jobs/s", file=sys.stderr)
    return rates
