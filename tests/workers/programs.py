"""The programs of `workers` as processes, and a producer for their queues."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bullmq import Job, Queue
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]

# Everything that is slow on purpose in production, quick.
QUICK = {
    "METRICS_PORT": "0",
    "LOCK_SECONDS": "2",
    "STALLED_INTERVAL_SECONDS": "1",
    "DRAIN_SECONDS": "20",
    "SCHEDULER_INTERVAL_SECONDS": "0.5",
    "PROCESSES": "1",
}

Answer = TypeVar("Answer")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {seconds} s")
        time.sleep(0.05)


class Program:
    """One running `python -m workers NAME`."""

    def __init__(self, name: str, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers", name],
                env={**os.environ, **QUICK, **environment},
                cwd=ROOT,
                stderr=stderr,
                stdout=stderr,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def worker_name(self) -> str:
        """What the queue calls a worker."""
        found = re.search(r"taking jobs .*worker=(\S+)", self.log)
        assert found, self.log
        return found[1]

    @property
    def url(self) -> str:
        """Where the program serves; waits until it does."""
        wait_until(lambda: "metrics on" in self.log or self.process.poll() is not None)
        found = re.search(r"metrics on (\S+)/metrics", self.log)
        assert found, self.log
        return found[1]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def samples(self) -> Samples:
        """Scrape: the value of every series."""
        _, text = self.get("/metrics")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return one series, None if there is none."""
        return self.samples().get((name, frozenset(labels.items())))

    def wait_ready(self) -> None:
        wait_until(lambda: self.get("/readyz")[0] == 200)

    def terminate(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Programs:
    """Starts programs on one Postgres and one Valkey, and ends those that still run."""

    def __init__(
        self, database_url: str, redis_url: str, directory: Path, **environment: str
    ) -> None:
        self._environment = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, **environment}
        self._directory = directory
        self.started: list[Program] = []

    def start(self, name: str, **environment: str) -> Program:
        log = self._directory / f"{len(self.started)}-{name}.log"
        program = Program(name, {**self._environment, **environment}, log)
        self.started.append(program)
        return program

    def ready(self, name: str, **environment: str) -> Program:
        program = self.start(name, **environment)
        program.wait_ready()
        return program


@contextmanager
def programs_on(
    database_url: str, redis_url: str, directory: Path, **environment: str
) -> Iterator[Programs]:
    programs = Programs(database_url, redis_url, directory, **environment)
    try:
        yield programs
    finally:
        for program in programs.started:
            if program.process.poll() is None:
                program.kill()


class Producer:
    """One queue seen from outside: the library's own client."""

    def __init__(self, redis_url: str, queue: str, prefix: str = "bull") -> None:
        self._redis_url = redis_url
        self._queue = queue
        self._prefix = prefix

    def _with(self, use: Callable[[Queue], Awaitable[Answer]]) -> Answer:
        async def run() -> Answer:
            queue = Queue(self._queue, {"connection": self._redis_url, "prefix": self._prefix})  # pyright: ignore
            try:
                return await use(queue)
            finally:
                await queue.close()

        return asyncio.run(run())

    def add(self, data: Any, **options: Any) -> str:
        """Add a job, kept when completed; return its id."""
        job = self._with(lambda queue: queue.add("test", data, {"attempts": 3, **options}))
        return job.id

    def add_all(self, data: list[Any], **options: Any) -> list[str]:
        """Add a job for each of the data, at once; return their ids."""
        entries = [
            {"name": "test", "data": one, "opts": {"attempts": 3, **options}} for one in data
        ]
        return [job.id for job in self._with(lambda queue: queue.addBulk(entries))]

    def job(self, job_id: str) -> Job:
        found = self._with(lambda queue: queue.getJob(job_id))
        assert found is not None
        return found

    def state(self, job_id: str) -> str:
        async def state(queue: Queue) -> str:
            job = await queue.getJob(job_id)
            return "unknown" if job is None else await job.getState()

        return self._with(state)

    def counts(self) -> dict[str, int]:
        return self._with(lambda queue: queue.getJobCounts())

    def wait_for(self, job_id: str, state: str, seconds: float = 40) -> Job:
        """Wait until the job is in that state."""
        wait_until(lambda: self.state(job_id) == state, seconds)
        return self.job(job_id)

    def pause(self) -> None:
        self._with(lambda queue: queue.pause())
