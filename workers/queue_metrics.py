"""Metrics of the queues, read from Valkey when they are asked for.

Nothing is remembered between scrapes: what cannot be read now is not there, and `valkey_up` says
so.
"""

from __future__ import annotations

import base64
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from workers.connections import new_blocking_client

logger = logging.getLogger(__name__)

# What a scrape waits for a server that does not answer, in seconds.
PATIENCE = 0.7
DISCOVERY_PATIENCE = 5.0
RETRY_SECONDS = 1.0
SCANNED_AT_A_TIME = 1000

STATES = (
    "waiting", "active", "delayed", "prioritized", "waiting-children", "paused", "completed",
    "failed",
)  # fmt: skip
# The states of jobs that still have to be worked on.
BACKLOG = ("waiting", "active", "delayed", "prioritized", "paused")

# Every queue's figures in one atomic look, so that no job is counted in two states or in none. Each
# key is a queue's `meta`, from which the others follow. A job in hand whose lock has run out has
# lost its worker; of very many jobs in hand, only so many are looked at.
SCRIPT = """
local most_looked_at = 5000
local figures = {}
for number, meta in ipairs(KEYS) do
    local base = string.sub(meta, 1, -5)
    local counts = {
        redis.call('LLEN', base .. 'wait'), redis.call('LLEN', base .. 'active'),
        redis.call('ZCARD', base .. 'delayed'), redis.call('ZCARD', base .. 'prioritized'),
        redis.call('ZCARD', base .. 'waiting-children'), redis.call('LLEN', base .. 'paused'),
        redis.call('ZCARD', base .. 'completed'), redis.call('ZCARD', base .. 'failed')
    }
    local oldest = counts[1] > 0 and redis.call('LINDEX', base .. 'wait', -1)
    local since = oldest and redis.call('HGET', base .. oldest, 'timestamp') or '0'
    local stalled = 0
    if counts[2] > 0 then
        local locks = redis.call('LRANGE', base .. 'active', 0, most_looked_at - 1)
        for index, id in ipairs(locks) do locks[index] = base .. id .. ':lock' end
        stalled = #locks - redis.call('EXISTS', unpack(locks))
    end
    figures[number] = {
        counts, redis.call('HEXISTS', meta, 'paused'), since, stalled,
        redis.call('HGET', base .. 'metrics:completed', 'count') or '0',
        redis.call('HGET', base .. 'metrics:failed', 'count') or '0'
    }
end
return figures
"""
CLIENT_NAME = re.compile(r" name=(\S+)")


@dataclass(frozen=True)
class QueueFigures:
    """One queue at one moment; `finished` are the jobs ever `completed` and `failed`."""

    jobs: dict[str, int]
    paused: bool
    oldest_waiting_seconds: float
    stalled: int
    finished: dict[str, int]
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
        keys = [f"{prefix}:{name}:meta" for name in names]
        pipeline.execute_command("EVAL_RO", SCRIPT, len(keys), *keys)
        # As one text: redis-py would make a dictionary of every client.
        pipeline.execute_command("CLIENT", "LIST", "TYPE", "normal")
        answers, clients = pipeline.execute()
    workers = count_workers(prefix, names, CLIENT_NAME.findall(clients))
    now = time.time()
    figures: dict[str, QueueFigures] = {}
    for name, answer in zip(names, answers, strict=True):
        counts, paused, since, stalled, completed, failed = answer
        waiting_since = _milliseconds(since) / 1000
        figures[name] = QueueFigures(
            jobs=dict(zip(STATES, counts, strict=True)),
            paused=bool(paused),
            oldest_waiting_seconds=max(0, now - waiting_since) if waiting_since else 0,
            stalled=stalled,
            finished={"completed": int(completed), "failed": int(failed)},
            workers=workers[name],
        )
    return figures


def _milliseconds(text: str) -> float:
    """Return a job's time as its producer gave it; 0 where that is none."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return value if math.isfinite(value) else 0


def discover_queues(client: Redis, prefix: str) -> list[str]:
    """Return the names of the queues that Valkey holds, in alphabetical order.

    Goes through all keys, in steps that hold nobody up: too much for every scrape.
    """
    literal = re.sub(r"([*?\[\]\\])", r"\\\1", prefix)
    start, end = f"{prefix}:", ":meta"
    # redis-py's own annotations are incomplete.
    untyped: Any = client
    keys: Iterable[str] = untyped.scan_iter(
        f"{literal}:*{end}", count=SCANNED_AT_A_TIME, _type="hash"
    )
    found = {key.removeprefix(start).removesuffix(end) for key in keys}
    return sorted(name for name in found if ":" not in name)


def count_workers(
    prefix: str, queues: Iterable[str], client_names: Iterable[str]
) -> dict[str, int]:
    """Return the number of workers of each queue, by the names of the server's clients.

    Those of Python call their connections `prefix:queue:w:name`, those of Node the same with the
    queue's name in base64. A name is one worker, however many connections have it; connections
    without one are a worker each.
    """
    by_base: dict[str, str] = {}
    for queue in queues:
        encoded = base64.b64encode(queue.encode()).decode()
        by_base[f"{prefix}:{queue}"] = by_base[f"{prefix}:{encoded}"] = queue
    named: dict[str, set[str]] = {queue: set() for queue in by_base.values()}
    unnamed = dict.fromkeys(named, 0)
    for name in client_names:
        base, mark, _ = name.partition(":w:")
        queue = by_base.get(base)
        if queue is None:
            continue
        if mark:
            named[queue].add(name)
        else:
            unnamed[queue] += 1
    return {queue: len(names) + unnamed[queue] for queue, names in named.items()}


def new_client(redis_url: str, patience: float) -> Redis:
    """Return a client that fails after so many seconds and does not try again."""
    return new_blocking_client(
        redis_url,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )


class Discovery:
    """Keeps the list of the queues that there are, in a thread of its own."""

    def __init__(self, redis_url: str, prefix: str, interval: float) -> None:
        self._client = new_client(redis_url, DISCOVERY_PATIENCE)
        self._prefix = prefix
        self._interval = interval
        self._found: list[str] = []
        threading.Thread(target=self._look, name="discovery", daemon=True).start()

    def queues(self) -> list[str]:
        """Return the names found last."""
        return self._found

    def _look(self) -> None:
        while True:
            try:
                self._found = discover_queues(self._client, self._prefix)
            except (RedisError, OSError) as error:
                logger.warning("cannot look for queues, trying again: %s", error)
                time.sleep(RETRY_SECONDS)
            else:
                time.sleep(self._interval)


class QueueCollector(Collector):
    """The queues of one Valkey, of which `queues` tells the names."""

    def __init__(
        self, redis_url: str, prefix: str, queues: Callable[[], list[str]], errors: Counter
    ) -> None:
        self._client = new_client(redis_url, PATIENCE)
        self._prefix = prefix
        self._queues = queues
        self._errors = errors.labels("valkey")

    def collect(self) -> Iterator[Metric]:
        started = time.perf_counter()
        up = GaugeMetricFamily("valkey_up", "Whether Valkey answered.")
        try:
            figures = self._read()
        except (RedisError, OSError) as error:
            logger.debug("cannot read the queues: %s", error)
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

    def _read(self) -> dict[str, QueueFigures]:
        queues = self._queues()
        try:
            return read_queues(self._client, self._prefix, queues)
        except RedisConnectionError:
            # A connection that the server has closed meanwhile is only noticed in use.
            return read_queues(self._client, self._prefix, queues)


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
    stalled = GaugeMetricFamily(
        "bullmq_jobs_stalled",
        "Active jobs whose worker has not renewed its lock.",
        labels=["queue"],
    )
    finished = CounterMetricFamily(
        "bullmq_jobs_finished",
        "Jobs finished for good by whichever worker, removed ones included, as the queue counts.",
        labels=["queue", "state"],
    )
    for queue, figure in figures.items():
        size.add_metric([queue], figure.size)
        for state, number in figure.jobs.items():
            count.add_metric([queue, state], number)
        oldest.add_metric([queue], figure.oldest_waiting_seconds)
        paused.add_metric([queue], figure.paused)
        workers.add_metric([queue], figure.workers)
        stalled.add_metric([queue], figure.stalled)
        for state, number in figure.finished.items():
            finished.add_metric([queue, state], number)
    yield from (size, count, oldest, paused, workers, stalled, finished)
