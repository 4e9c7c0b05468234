"""Adds the jobs: one for each actor with enough new reviews, and the complexity by cron pattern.

Any number of schedulers may run; an advisory lock lets one look and add at a time. An actor's job
has an id made of the actor's, and BullMQ ignores a job whose id it still holds: completed jobs
leave at once, so that the next one can be added, while a failed one is kept, and holds the actor
back, until `FAILED_JOB_HOLD_SECONDS` are over. What was done already is known from the tables the
workers write in the same transaction as their results, before the job leaves the queue: so what is
not in the queue, and after that still due, was never added.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import psycopg
from bullmq import Queue
from redis.exceptions import RedisError

from workers import jobs, service
from workers.complexity_state import ensure_tables
from workers.connections import leave_the_demoted, redis_options
from workers.database import SCHEDULER_LOCK, Database, statement
from workers.metrics import SchedulerMetrics, new_registry
from workers.readiness import Dependencies
from workers.service import Stop, ended, stopped_before
from workers.settings import COMPLEXITY_QUEUE, FSRS_QUEUE, SchedulerSettings

logger = logging.getLogger(__name__)

BATCH = 500
RETRY_SECONDS = 1.0
JOB_SCHEDULER = "complexity"
FIRST_COMPLEXITY_JOB = "complexity-first"
KEPT_COMPLEXITY_JOBS = 100


@dataclass(frozen=True)
class Due:
    """What should be added, as far as the database knows."""

    actors: list[UUID]
    complexity: bool


def find_due(
    connection: psycopg.Connection, min_reviews: int, min_new_reviews: int, starting: bool
) -> Due:
    """Look up the actors to optimize, and whether the complexity should not wait."""
    ensure_tables(connection)
    actors = connection.execute(
        statement("actors_due"), {"min_reviews": min_reviews, "min_new_reviews": min_new_reviews}
    ).fetchall()
    complexity = connection.execute(statement("complexity_due"), {"starting": starting}).fetchone()
    return Due([actor for (actor,) in actors], bool(complexity and complexity[0]))


def _batches(new: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    remaining = iter(new)
    while batch := list(islice(remaining, BATCH)):
        yield batch


class Scheduler:
    """Looks for work every so often and adds what is not in the queues yet."""

    def __init__(self, settings: SchedulerSettings, metrics: SchedulerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._dependencies: Dependencies | None = None
        self._starting = True

    def missing(self) -> list[str]:
        """Return what is missing to work, for `/readyz`."""
        return self._dependencies.missing() if self._dependencies else ["starting"]

    async def run(self, stop: Stop) -> None:
        """Add jobs until a stop is requested."""
        database_url = self._settings.database_url.get_secret_value()
        redis_url = self._settings.redis_url.get_secret_value()
        self._database = Database(database_url, "workers scheduler")
        self._fsrs = self._queue(FSRS_QUEUE, redis_url)
        self._complexity = self._queue(COMPLEXITY_QUEUE, redis_url)
        self._dependencies = Dependencies(database_url, redis_url, "workers scheduler")
        self._dependencies.start()
        rounds = asyncio.create_task(self._rounds(self._dependencies))
        try:
            if await stopped_before(rounds, stop.requested.wait()):
                rounds.cancel()
                # The thread that asks Postgres is waited for at the end.
                await asyncio.to_thread(self._database.cancel)
                await ended(rounds)
            else:
                rounds.result()
        finally:
            await self._dependencies.stop()
            await self._fsrs.close()
            await self._complexity.close()
            self._database.discard()

    def _queue(self, name: str, redis_url: str) -> Queue:
        queue = Queue(
            name,
            {"connection": redis_options(redis_url), "prefix": self._settings.queue_prefix},
        )
        # Not patient: who waits for Valkey without end would hold the lock as long.
        leave_the_demoted(queue.client)
        return queue

    async def _rounds(self, dependencies: Dependencies) -> None:
        while True:
            await dependencies.wait()
            try:
                done = await self._round()
            except (psycopg.Error, RedisError) as error:
                self._database.discard()
                self._metrics.errors.inc()
                logger.warning("this round failed, trying again: %s", str(error).strip())
                await asyncio.sleep(RETRY_SECONDS)
            else:
                # Of a round that another scheduler does, that one tells.
                if done:
                    self._metrics.last_success.set_to_current_time()
                    self._starting = False
                await asyncio.sleep(self._settings.scheduler_interval_seconds)

    async def _round(self) -> bool:
        """Add what is due; return False if another scheduler is doing so."""
        if not await asyncio.to_thread(self._begin):
            return False
        try:
            await self._add_due()
        finally:
            await asyncio.to_thread(self._end)
        return True

    def _begin(self) -> bool:
        """Take the lock; false if another scheduler is looking just now."""
        connection = self._database.connection()
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [SCHEDULER_LOCK]).fetchone()
        return bool(row and row[0])

    def _end(self) -> None:
        try:
            self._database.connection().execute("SELECT pg_advisory_unlock(%s)", [SCHEDULER_LOCK])
        except psycopg.Error:
            self._database.discard()  # which releases it as well

    async def _add_due(self) -> None:
        hold = int(self._settings.failed_job_hold_seconds * 1000)
        for queue in (self._fsrs, self._complexity):
            await queue.clean(hold, BATCH, "failed")
        await self._appoint_complexity()
        due = await asyncio.to_thread(self._find_due)
        missing = [
            *await self._not_held(self._fsrs, [self._actor_job(actor) for actor in due.actors]),
            *await self._not_held(
                self._complexity,
                [self._job("calculate", jobs.ComplexityJob(), FIRST_COMPLEXITY_JOB)]
                if due.complexity
                else [],
            ),
        ]
        if not missing:
            return
        due = await asyncio.to_thread(self._find_due)
        ids = {jobs.fsrs_job_id(actor) for actor in due.actors}
        if due.complexity:
            ids.add(FIRST_COMPLEXITY_JOB)
        new = [job for job in missing if job["opts"]["jobId"] in ids]
        await self._add(self._complexity, [job for job in new if job["name"] == "calculate"])
        await self._add(self._fsrs, [job for job in new if job["name"] == "optimize"])
        logger.info("added %d jobs", len(new), extra={"actors_due": len(due.actors)})

    def _find_due(self) -> Due:
        return find_due(
            self._database.connection(),
            self._settings.fsrs_min_reviews,
            self._settings.fsrs_min_new_reviews,
            self._starting,
        )

    def _options(self) -> dict[str, Any]:
        delay = int(self._settings.job_backoff_seconds * 1000)
        return {
            "attempts": self._settings.job_attempts,
            "backoff": {"type": "exponential", "delay": delay},
        }

    def _job(self, name: str, job: jobs.AnyJob, job_id: str) -> dict[str, Any]:
        options = {**self._options(), "jobId": job_id, "removeOnComplete": True}
        return {"name": name, "data": jobs.payload(job), "opts": options}

    def _actor_job(self, actor: UUID) -> dict[str, Any]:
        return self._job(
            "optimize", jobs.FsrsOptimizationJob(actorId=actor), jobs.fsrs_job_id(actor)
        )

    async def _not_held(self, queue: Queue, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the jobs that the queue does not hold, in whatever state."""
        missing: list[dict[str, Any]] = []
        for batch in _batches(wanted):
            async with queue.client.pipeline(transaction=False) as pipeline:
                for job in batch:
                    pipeline.exists(queue.toKey(job["opts"]["jobId"]))
                held = await pipeline.execute()
            missing += [job for job, exists in zip(batch, held, strict=True) if not exists]
        return missing

    async def _add(self, queue: Queue, new: list[dict[str, Any]]) -> None:
        for batch in _batches(new):
            await queue.addBulk(batch)
            self._metrics.added[queue.name].inc(len(batch))

    async def _appoint_complexity(self) -> None:
        """Make sure that the cron pattern is registered and its next job is there.

        Only if not: registering anew takes the next job away, even one that is due this moment.
        """
        options = {
            **self._options(),
            "removeOnComplete": {"count": KEPT_COMPLEXITY_JOBS},
            "removeOnFail": {"count": KEPT_COMPLEXITY_JOBS},
        }
        # Not getJobScheduler, which raises where there is none.
        registered = await self._complexity.getJobSchedulers()
        found = next((entry for entry in registered if entry["key"] == JOB_SCHEDULER), None)
        if (
            found is not None
            and found.get("pattern") == self._settings.complexity_cron
            and found.get("template", {}).get("opts") == options
            and await self._complexity.getJob(f"repeat:{JOB_SCHEDULER}:{int(found['next'])}")
        ):
            return
        job = await self._complexity.upsertJobScheduler(
            JOB_SCHEDULER,
            {"pattern": self._settings.complexity_cron},
            "calculate",
            jobs.payload(jobs.ComplexityJob()),
            options,
        )
        if job is not None:
            # The moment is the last part of the job's id: its delay counts from some moment past.
            at = datetime.fromtimestamp(int(job.id.rpartition(":")[2]) / 1000, UTC)
            logger.info("complexity appointed", extra={"next": f"{at:%Y-%m-%dT%H:%MZ}"})


def run(settings: SchedulerSettings) -> None:
    """Run the scheduler until SIGTERM. Raises service.ServiceError."""
    registry = new_registry()
    metrics = SchedulerMetrics(registry, (FSRS_QUEUE, COMPLEXITY_QUEUE))
    scheduler = Scheduler(settings, metrics)
    service.run("scheduler", settings, registry, scheduler.missing, scheduler.run)
