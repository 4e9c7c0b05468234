"""FSRS training: against the reference trainer, end to end, and as the table grows."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg
from bullmq import Queue

from bench.learners import ROOT, actors_by_reviews, learners
from tests.servers import running_valkey
from workers import fsrs
from workers.settings import FSRS_QUEUE

REVIEWS = 5000
MIN_REVIEWS = 200
MEMORY_SECONDS = 2.0


@dataclass(frozen=True)
class Comparison:
    """Medians over the learners; the loss is the sum over all, judged by fsrs-rs for both."""

    learners: int
    train_seconds: float
    optimize_seconds: float
    reference_train_seconds: float
    reference_whole_seconds: float
    train_ratio: float
    whole_ratio: float
    log_loss: float
    reference_log_loss: float

    @property
    def excess_loss(self) -> float:
        return self.log_loss / self.reference_log_loss - 1


def _first_reviews(connection: psycopg.Connection, actor: UUID) -> list[fsrs.Review]:
    rows = connection.execute(
        'SELECT "flashcardId"::text, reviewed_at, rating FROM review_logs'
        ' WHERE "actorId" = %s ORDER BY reviewed_at, id LIMIT %s',
        [actor, REVIEWS],
    ).fetchall()
    return sorted(fsrs.Review(*row) for row in rows)


def _as_reference(reviews: list[fsrs.Review]) -> str:
    cards: dict[str, int] = {}
    rows: list[list[int]] = []
    for review in reviews:
        card = cards.setdefault(review.card, len(cards) + 1)
        at = review.reviewed_at
        milliseconds = (at.toordinal() - 719_163) * 86_400_000 + (
            (at.hour * 60 + at.minute) * 60 + at.second
        ) * 1000
        rows.append([card, milliseconds, review.rating])
    return json.dumps(rows)


def against_reference(python: str, count: int) -> Comparison:
    """Train the same learners with both, in turn; `python` has the group `bench-fsrs`."""
    with learners(60, 600_000) as url, psycopg.connect(url) as connection:
        busiest = [actor for actor, reviews in actors_by_reviews(connection) if reviews >= REVIEWS]
        histories = [_first_reviews(connection, actor) for actor in busiest[:count]]
    reference = subprocess.Popen(
        [python, str(ROOT / "bench" / "fsrs_reference.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    results: list[tuple[float, float, float, float, float, float]] = []
    if reference.stdin is None or reference.stdout is None:
        raise RuntimeError("no pipes to the reference trainer")
    for number, history in enumerate([histories[0], *histories]):  # the first one is warm-up
        started = time.perf_counter()
        data = fsrs.training_set(history)
        prepared = time.perf_counter()
        weights = fsrs.train(data)
        trained = time.perf_counter()
        fsrs.optimize(fsrs.training_set(history))
        optimized = time.perf_counter()
        print(_as_reference(history), file=reference.stdin, flush=True)
        answer: dict[str, Any] = json.loads(reference.stdout.readline())
        losses = [fsrs.evaluate(one, data).log_loss for one in (weights, answer["weights"])]
        if number:
            results.append(
                (
                    trained - prepared,
                    optimized - trained,
                    answer["train_seconds"],
                    answer["whole_seconds"],
                    losses[0],
                    losses[1],
                )
            )
            print(
                f"  {trained - prepared:.3f} s, reference {answer['train_seconds']:.2f} s, "
                f"log-loss {losses[0]:.4f}, reference {losses[1]:.4f}, started {started:.0f}",
                file=sys.stderr,
            )
    reference.stdin.close()
    reference.wait()
    columns = list(zip(*results, strict=True))
    medians = [statistics.median(column) for column in columns]
    return Comparison(
        len(results),
        *medians[:4],
        train_ratio=statistics.median(row[2] / row[0] for row in results),
        whole_ratio=statistics.median(row[3] / row[1] for row in results),
        log_loss=sum(columns[4]),
        reference_log_loss=sum(columns[5]),
    )


def _optimize(history: bytes) -> int:
    import pickle

    return fsrs.optimize(fsrs.training_set_of(pickle.loads(history))).items  # noqa: S301 -- our own


def training_alone(url: str, actors: list[UUID], processes: int) -> float:
    """Return the seconds to train the actors' reviews, which lie in memory, on all cores."""
    import pickle

    histories: list[bytes] = []
    with psycopg.connect(url) as connection:
        for actor in actors:
            rows = connection.execute(
                'SELECT "flashcardId"::text, reviewed_at, rating FROM review_logs'
                ' WHERE "actorId" = %s ORDER BY 1, 2, id',
                [actor],
            ).fetchall()
            reviews = [fsrs.Review(*row) for row in rows]
            histories.append(pickle.dumps(list(fsrs.histories(reviews))))
    with ProcessPoolExecutor(processes, get_context("forkserver")) as pool:
        list(pool.map(_optimize, histories[: processes * 2]))  # the processes are there
        started = time.perf_counter()
        list(pool.map(_optimize, histories))
        return time.perf_counter() - started


@contextmanager
def _worker(url: str, redis_url: str, log: Path) -> Iterator[psutil.Process]:
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers", "fsrs-optimization"],
            env={**os.environ, "DATABASE_URL": url, "REDIS_URL": redis_url, "METRICS_PORT": "0"},
            cwd=ROOT,
            stderr=stderr,
        )
    try:
        while "taking jobs" not in log.read_text():
            time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _memory(process: psutil.Process) -> float:
    """Return the largest proportional share of memory of one of the worker's processes, in MB."""
    shares: list[float] = []
    for one in [process, *process.children(recursive=True)]:
        try:
            shares.append(one.memory_full_info().uss / 1e6)
        except psutil.NoSuchProcess:
            continue
    return max(shares)


async def _through_the_queue(
    url: str, redis_url: str, actors: list[UUID], log: Path
) -> tuple[float, float]:
    queue = Queue(FSRS_QUEUE, {"connection": redis_url})  # pyright: ignore
    try:
        with _worker(url, redis_url, log) as process:
            peak = 0.0
            for batch in (actors[:4], actors):  # the first are warm-up
                await queue.pause()
                jobs = [
                    {"name": "optimize", "data": {"actorId": str(actor)}, "opts": {}}
                    for actor in batch
                ]
                await queue.addBulk(jobs)
                started = time.perf_counter()
                await queue.resume()
                looked = 0.0
                while any((await queue.getJobCounts("waiting", "active", "paused")).values()):
                    # Looking costs the kernel some milliseconds, so not often.
                    if time.perf_counter() - looked > MEMORY_SECONDS:
                        peak = max(peak, _memory(process))
                        looked = time.perf_counter()
                    await asyncio.sleep(0.02)
                seconds = time.perf_counter() - started
            if (await queue.getJobCounts("failed"))["failed"]:
                raise RuntimeError(f"jobs failed: {log.read_text()[-2000:]}")
            return seconds, peak
    finally:
        await queue.close()


@dataclass(frozen=True)
class EndToEnd:
    """Seconds for the same actors, and the ratio of the throughputs."""

    actors: int
    reviews: int
    alone_seconds: float
    end_to_end_seconds: float
    ratio: float


def end_to_end(actors: int, reviews: int, rounds: int) -> EndToEnd:
    """Compare jobs through queue and database with training alone, on all cores, in turn."""
    processes = os.cpu_count() or 1
    alone: list[float] = []
    through: list[float] = []
    with learners(actors, reviews) as url, tempfile.TemporaryDirectory() as directory:
        with psycopg.connect(url) as connection:
            found = [one for one in actors_by_reviews(connection) if one[1] >= MIN_REVIEWS]
        ids = [actor for actor, _ in found]
        for number in range(rounds):
            alone.append(training_alone(url, ids, processes))
            with running_valkey() as valkey:
                log = Path(directory) / f"{number}.log"
                through.append(asyncio.run(_through_the_queue(url, valkey.url, ids, log))[0])
            print(f"  alone {alone[-1]:.2f} s, end to end {through[-1]:.2f} s", file=sys.stderr)
    return EndToEnd(
        len(found),
        sum(reviews for _, reviews in found),
        statistics.median(alone),
        statistics.median(through),
        statistics.median(a / b for a, b in zip(alone, through, strict=True)),
    )


@dataclass(frozen=True)
class Size:
    """All actors of one table size: microseconds of both cores a review, and peak memory."""

    reviews: int
    actors: int
    seconds: float
    microseconds_a_review: float
    peak_megabytes: float


def growth(sizes: list[int], reviews_an_actor: int) -> list[Size]:
    """Optimize every actor of ever larger tables, through the queue."""
    found: list[Size] = []
    for reviews in sizes:
        actors = reviews // reviews_an_actor
        with (
            learners(actors, reviews) as url,
            running_valkey() as valkey,
            tempfile.TemporaryDirectory() as directory,
        ):
            with psycopg.connect(url) as connection:
                ids = [actor for actor, _ in actors_by_reviews(connection)]
            log = Path(directory) / "log"
            seconds, peak = asyncio.run(_through_the_queue(url, valkey.url, ids, log))
        found.append(Size(reviews, actors, seconds, seconds / reviews * 1e6, peak))
        print(f"  {found[-1]}", file=sys.stderr)
    return found
