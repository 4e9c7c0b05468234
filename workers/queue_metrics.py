"""Metrics of the queues, read from Valkey when they are asked for.

Nothing is remembered between scrapes: what cannot be read now is not there, and `valkey_up` says
so.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from workers.connections import redis_options

# What a scrape waits for a server that does not answer, in seconds.
PATIENCE = 0.7

STATES = (
    "waiting", "active", "delayed", "prioritized", "waiting-children", "paused", "completed",
    "failed",
)  # fmt: skip
# The states of jobs that still have to be worked on.
BACKLOG = ("waiting", "active", "delayed", "prioritized", "paused")

# One queue's figures in one atomic look, so that no job is counted in two states or in none.
QUEUE_SCRIPT = """
local oldest = redis.call('LINDEX', KEYS[1], -1)
local since = oldest and redis.call('HGET', ARGV[1] .. oldest, 'timestamp') or '0'
return {
    redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('ZCARD', KEYS[3]),
    redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[5]), redis.call('LLEN', KEYS[6]),
    redis.call('ZCARD', KEYS[7]), redis.call('ZCARD', KEYS[8]),
    redis.call('HEXISTS', KEYS[9], 'paused'), since
}
"""
QUEUE_KEYS = (
    "wait", "active", "delayed", "prioritized", "waiting-children", "paused", "completed",
    "failed", "meta",
)  # fmt: skip


@dataclass(frozen=True)
class QueueFigures:
    """One queue at one moment."""

    jobs: dict[str, int]
    paused: bool
    oldest_waiting_seconds: float
    workers: int

    @property
    def size(self) -> int:
        return sum(self.jobs[state] for state in BACKLOG)


def read_queues(client: Redis, prefix: str, queues: Iterable[str]) -> dict[str, QueueFigures]:
    """Return the figures of every queue, in one round trip."""
    names = list(queues)
    # redis-py's own annotations are incomplete.
    pipeline: Any = client.pipeline(transaction=False)  # pyright: ignore[reportUnknownMemberType]
    with pipeline:
        for name in names:
            base = f"{prefix}:{name}:"
            keys = [base + key for key in QUEUE_KEYS]
            pipeline.eval(QUEUE_SCRIPT, len(keys), *keys, base)
        pipeline.client_list(_type="normal")
        *answers, clients = pipeline.execute()
    now = time.time()
    figures: dict[str, QueueFigures] = {}
    for name, (*counts, paused, since) in zip(names, answers, strict=True):
        waiting_since = int(since) / 1000
        figures[name] = QueueFigures(
            jobs=dict(zip(STATES, counts, strict=True)),
            paused=bool(paused),
            oldest_waiting_seconds=max(0, now - waiting_since) if waiting_since else 0,
            workers=count_workers(prefix, name, (client["name"] for client in clients)),
        )
    return figures


def count_workers(prefix: str, queue: str, client_names: Iterable[str]) -> int:
    """Return the number of workers of a queue, by the names of the server's clients.

    Those of Python call their connections `prefix:queue:w:name`, those of Node the same with the
    queue's name in base64. A name is one worker, however many connections have it; connections
    without one are a worker each.
    """
    encoded = base64.b64encode(queue.encode()).decode()
    bases = (f"{prefix}:{queue}", f"{prefix}:{encoded}")
    named: set[str] = set()
    unnamed = 0
    for name in client_names:
        if name in bases:
            unnamed += 1
        elif name.startswith(tuple(f"{base}:w:" for base in bases)):
            named.add(name)
    return len(named) + unnamed


class QueueCollector(Collector):
    """The queues of one Valkey."""

    def __init__(self, redis_url: str, prefix: str, queues: list[str], errors: Counter) -> None:
        options: dict[str, Any] = {
            **redis_options(redis_url),
            "socket_timeout": PATIENCE,
            "socket_connect_timeout": PATIENCE,
            "decode_responses": True,
            "retry": Retry(NoBackoff(), 0),
        }
        self._client = Redis(**options)
        self._prefix = prefix
        self._queues = queues
        self._errors = errors.labels("valkey")

    def collect(self) -> Iterator[Metric]:
        started = time.perf_counter()
        up = GaugeMetricFamily("valkey_up", "Whether Valkey answered.")
        try:
            figures = read_queues(self._client, self._prefix, self._queues)
        except (RedisError, OSError):
            self._errors.inc()
            figures = None
        up.add_metric([], 0 if figures is None else 1)
        yield up
        duration = GaugeMetricFamily(
            "bullmq_scrape_duration_seconds", "Time to read all queues for this scrape."
        )
        duration.add_metric([], time.perf_counter() - started)
        yield duration
        if figures is not None:
            yield from queue_families(figures)


def queue_families(figures: dict[str, QueueFigures]) -> Iterator[Metric]:
    """Return the metrics of the queues."""
    size = GaugeMetricFamily(
        "bullmq_queue_size",
        "Jobs still to be done: waiting, active, delayed and prioritized.",
        labels=["queue"],
    )
    count = GaugeMetricFamily("bullmq_jobs", "Jobs by state.", labels=["queue", "state"])
    oldest = GaugeMetricFamily(
        "bullmq_oldest_waiting_job_age_seconds",
        "Time since the job next in line was created; 0 if none waits.",
        labels=["queue"],
    )
    paused = GaugeMetricFamily(
        "bullmq_queue_paused", "Whether the queue is paused.", labels=["queue"]
    )
    workers = GaugeMetricFamily("bullmq_workers", "Workers connected.", labels=["queue"])
    for queue, figure in figures.items():
        size.add_metric([queue], figure.size)
        for state, number in figure.jobs.items():
            count.add_metric([queue, state], number)
        oldest.add_metric([queue], figure.oldest_waiting_seconds)
        paused.add_metric([queue], figure.paused)
        workers.add_metric([queue], figure.workers)
    yield from (size, count, oldest, paused, workers)
