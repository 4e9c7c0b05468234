"""A queue worker: takes jobs from BullMQ, has the pool do them, and ends without losing any."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bullmq import Job
from bullmq.custom_errors import DelayedError, UnrecoverableError
from bullmq.types import WorkerOptions
from prometheus_client import CollectorRegistry, Histogram
from pydantic import BaseModel, ValidationError
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from workers import service
from workers.connections import reconnect_patiently, redis_options
from workers.consumer import Consumer
from workers.errors import DatabaseUnavailableError, RefusedJobError
from workers.flows import Flows
from workers.metrics import JobMetrics
from workers.pool import Pool
from workers.readiness import Dependencies
from workers.service import Stop, stopped_before
from workers.settings import WorkerSettings

logger = logging.getLogger(__name__)

# What may still happen after the last job was handed back, before the process just ends.
CLOSING_SECONDS = 5.0

# The queue keeps how many jobs were finished in each of so many last minutes.
MINUTES_COUNTED = 24 * 60


@dataclass(frozen=True)
class Task:
    """What the jobs of one queue are: their data, the work, and what is measured of it.

    `arguments` turns the data into the arguments of `function`, which a process of the pool calls
    as `function(connection, **arguments)`; the dataclass it returns becomes the job's return value,
    and `count` takes that when the job has completed. Where it has `children`, a job is made of the
    data of each, and this one comes back when they have ended, with `resume` added to its own.
    `duration` is of the function; None where `count` measures.
    """

    queue: str
    payload: type[BaseModel]
    function: str
    arguments: Callable[[Any], dict[str, Any]]
    count: Callable[[dict[str, Any]], None]
    duration: Histogram | None
    preload: list[str]


class _ShuttingDownError(Exception):
    """The job has to go back to the queue."""


class QueueWorker:
    """Works on one queue until told to stop."""

    def __init__(self, task: Task, settings: WorkerSettings, registry: CollectorRegistry) -> None:
        self._task = task
        self._settings = settings
        self._metrics = JobMetrics(registry, task.queue)
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._dependencies: Dependencies | None = None
        self._active = 0

    def missing(self) -> list[str]:
        """Return what is missing to work, for `/readyz`."""
        return self._dependencies.missing() if self._dependencies else ["starting"]

    async def run(self, stop: Stop) -> None:
        """Take and do jobs until a stop is requested, then let the running ones end."""
        database_url = self._settings.database_url.get_secret_value()
        redis_url = self._settings.redis_url.get_secret_value()
        application_name = f"workers {self._task.queue}"
        self._stopping = stop.requested
        self._dependencies = Dependencies(database_url, redis_url, application_name)
        self._pool = Pool(
            self._settings.processes, database_url, application_name, self._task.preload
        )
        stop.before_exit = self._pool.kill
        self._dependencies.start()
        self._flows = Flows(self._task.queue, redis_options(redis_url), self._settings.queue_prefix)
        try:
            if await stopped_before(self._dependencies.wait(), stop.requested.wait()):
                return
            await self._work(redis_url, stop)
        finally:
            await self._flows.close()
            await self._dependencies.stop()
            self._pool.kill()

    async def _work(self, redis_url: str, stop: Stop) -> None:
        consumer = Consumer(self._task.queue, self._name, self._process, self._options(redis_url))
        for client in (consumer.client, consumer.bclient):
            reconnect_patiently(client)
        consumer.on("completed", self._completed)
        consumer.on("failed", self._failed)
        consumer.on("stalled", self._stalled)
        consumer.on("error", self._error)
        running = asyncio.create_task(consumer.run())
        logger.info("taking jobs", extra={"queue": self._task.queue, "worker": self._name})
        await stopped_before(running, stop.requested.wait())
        if running.done():
            running.result()
            raise service.ServiceError("the queue worker ended by itself")
        await self._drain(consumer, running)

    def _options(self, redis_url: str) -> WorkerOptions:
        settings = self._settings
        options: WorkerOptions = {
            "connection": redis_options(redis_url),
            "prefix": settings.queue_prefix,
            "concurrency": settings.concurrency,
            "lockDuration": int(settings.lock_seconds * 1000),
            "stalledInterval": int(settings.stalled_interval_seconds * 1000),
            "maxStalledCount": settings.max_stalled_count,
            "runRetryDelay": 1000,
            "removeOnComplete": {
                "count": settings.keep_completed_jobs,
                "age": settings.keep_completed_seconds,
            },
            "removeOnFail": {
                "count": settings.keep_failed_jobs,
                "age": settings.keep_failed_seconds,
            },
            # Lets the queue itself count what was finished, whichever worker did it.
            "metrics": {"maxDataPoints": MINUTES_COUNTED},
        }
        if settings.rate_limit_jobs:
            options["limiter"] = {
                "max": settings.rate_limit_jobs,
                "duration": int(settings.rate_limit_seconds * 1000),
            }
        return options

    async def _drain(self, consumer: Consumer, running: asyncio.Task[None]) -> None:
        drain_seconds = self._settings.drain_seconds if self._active else 0
        deadline = asyncio.get_running_loop().call_later(
            drain_seconds, self._pool.give_up, _ShuttingDownError()
        )
        try:
            async with asyncio.timeout(drain_seconds + CLOSING_SECONDS):
                consumer.stop()
                await running
                await consumer.close()
        except TimeoutError:
            logger.warning("the queue does not answer; other workers will take over its jobs")
            running.cancel()
        finally:
            deadline.cancel()

    async def _process(self, job: Job, token: str) -> dict[str, Any]:
        self._active += 1
        self._metrics.active.set(self._active)
        if job.attemptsStarted == 1:
            due = (job.timestamp + job.opts.get("delay", 0)) / 1000
            self._metrics.wait.observe(max(0, time.time() - due))
        try:
            try:
                while True:
                    result = await self._do(job, self._task.arguments(self._payload(job)))
                    if "children" not in result:
                        return result
                    # Returns only if the children have ended already.
                    await self._flows.hand_out(job, token, result["children"], result["resume"])
            except RefusedJobError as error:
                raise UnrecoverableError(str(error)) from None
            except _ShuttingDownError:
                await job.moveToDelayed(round(time.time() * 1000), token)
                self._metrics.returned.inc()
                logger.info("handed back to the queue", extra=self._about(job))
                raise DelayedError from None
        finally:
            self._active -= 1
            self._metrics.active.set(self._active)

    def _payload(self, job: Job) -> BaseModel:
        try:
            return self._task.payload.model_validate(job.data)
        except ValidationError as error:
            raise UnrecoverableError(_explain(error)) from None

    async def _do(self, job: Job, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._attempt(arguments)
        except DatabaseUnavailableError:
            # Without a database no job can be done: better hold this one than use up its attempts.
            return await self._do_patiently(job, arguments)

    async def _attempt(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._stopping.is_set():
            raise _ShuttingDownError
        started = time.perf_counter()
        result = await self._pool.run(self._task.function, arguments)
        if self._task.duration is not None:
            self._task.duration.observe(time.perf_counter() - started)
        return result

    async def _do_patiently(self, job: Job, arguments: dict[str, Any]) -> dict[str, Any]:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DatabaseUnavailableError),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            sleep=self._sleep,
            before_sleep=lambda state: logger.warning(
                "waiting for the database",
                extra={**self._about(job), "attempt": state.attempt_number},
            ),
        ):
            with attempt:
                return await self._attempt(arguments)
        raise AssertionError("unreachable")

    async def _sleep(self, seconds: float) -> None:
        if await stopped_before(asyncio.sleep(seconds), self._stopping.wait()):
            raise _ShuttingDownError

    def _completed(self, job: Job, value: dict[str, Any]) -> None:
        self._metrics.completed.inc()
        self._metrics.attempts.observe(job.attemptsMade)
        self._task.count(value)
        logger.info("completed", extra={**self._about(job), **value})

    def _failed(self, job: Job, error: Exception) -> None:
        about = {**self._about(job), "attempt": job.attemptsMade}
        # Set by the library when, and only when, the queue has moved the job to its failed ones.
        if job.finishedOn:
            self._metrics.failed.inc()
            self._metrics.attempts.observe(job.attemptsMade)
            logger.error("failed: %s", error, extra=about)
        else:
            self._metrics.retried.inc()
            logger.warning("will be retried: %s", error, extra=about)

    def _stalled(self, job_id: str) -> None:
        self._metrics.stalled.inc()
        logger.warning(
            "taken over from a vanished worker", extra={"queue": self._task.queue, "job": job_id}
        )

    def _error(self, error: Exception, job: Job | None = None) -> None:
        about = self._about(job) if job else {"queue": self._task.queue}
        logger.error("%s: %s", type(error).__name__, error, extra=about)

    def _about(self, job: Job) -> dict[str, Any]:
        return {"queue": self._task.queue, "job": job.id}


def _explain(error: ValidationError) -> str:
    problems = "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'data'}: {problem['msg']}"
        for problem in error.errors(include_url=False)
    )
    return f"malformed job: {problems}"


def run(task: Task, settings: WorkerSettings, registry: CollectorRegistry) -> None:
    """Run the worker of one queue until SIGTERM. Raises service.ServiceError."""
    worker = QueueWorker(task, settings, registry)
    service.run(f"{task.queue} worker", settings, registry, worker.missing, worker.run)
