"""BullMQ's Python worker with a run loop that stays cheap when many jobs are in hand.

The library's own loop waits for all its tasks at once, anew for every job, so that a job costs the
more the more are worked on, and it asks for each job in a round trip of its own. Here every place
for a job is a task, and gets its next job with the answer to the last one, as the Node worker does.
Scripts, keys, locks and the recovery of stalled jobs are the library's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgpack
from bullmq import Job, Worker
from bullmq.custom_errors import DelayedError, UnrecoverableError, WaitingChildrenError
from bullmq.timer import Timer
from bullmq.types import WorkerOptions
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

# A rate limit may be lifted meanwhile, so it is looked at again after this many seconds.
LONGEST_PAUSE = 5.0

# Which argument of a script that takes a job holds the packed options with the worker's name.
OPTIONS_ARGUMENT = {"moveToActive": 2, "moveToFinished": 7}


class _Line:
    """Sends together what several places for jobs have to tell the queue at the same time."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._pending: list[tuple[asyncio.Future[Any], AsyncScript, list[str], list[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def run(self, script: AsyncScript, keys: list[str], args: list[Any]) -> Any:
        """Run the script and return its answer, or raise what the script alone would raise."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append((answer, script, keys, args))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                try:
                    await self._send_batch(batch)
                except Exception as error:
                    for answer, *_ in batch:
                        if not answer.done():
                            answer.set_exception(error)
        finally:
            self._sending = None

    async def _send_batch(
        self, batch: list[tuple[asyncio.Future[Any], AsyncScript, list[str], list[Any]]]
    ) -> None:
        # redis-py's own annotations are incomplete.
        pipeline: Any = self._client.pipeline(transaction=False)
        for _, script, keys, args in batch:
            pipeline.evalsha(script.sha, len(keys), *keys, *args)
        found = await pipeline.execute(raise_on_error=False)
        for (answer, script, keys, args), value in zip(batch, found, strict=True):
            told = value
            if isinstance(value, NoScriptError):
                told = await script(keys, args)
            if answer.done():
                continue
            if isinstance(told, Exception):
                answer.set_exception(told)
            else:
                answer.set_result(told)


def _telling(name: str, script: AsyncScript, position: int, line: _Line) -> Callable[..., Any]:
    """Return the script as the library calls it, telling the queue besides who takes the job.

    The queue keeps that as the job's `pb`, as it does for workers in Node.
    """

    def run(keys: list[str], args: list[Any]) -> Awaitable[Any]:
        args[position] = msgpack.packb({**msgpack.unpackb(args[position]), "name": name})
        return line.run(script, keys, args)

    return run


class Consumer(Worker):
    """Works on one queue; `run` returns after `stop`, when every job in hand has ended."""

    def __init__(
        self,
        queue: str,
        name: str,
        processor: Callable[[Job, str], Awaitable[Any]],
        options: WorkerOptions,
    ) -> None:
        super().__init__(queue, processor, {**options, "name": name, "autorun": False})
        self._name = name
        self._stop = asyncio.Event()
        self._fetching = asyncio.Lock()
        self._limited_until = 0.0
        commands = self.backend.scripts.commands
        line = _Line(self.client)
        for script, position in OPTIONS_ARGUMENT.items():
            found = commands[script]
            assert isinstance(found, AsyncScript)  # noqa: S101 -- nobody else replaces them
            commands[script] = _telling(name, found, position, line)

    def stop(self) -> None:
        """Take no more jobs."""
        self._stop.set()
        self.closing = True
        if self.waiting:
            self.waiting.cancel()

    async def run(self) -> None:
        """Take and do jobs until `stop`."""
        await self._ensure_client_names()
        self.lockManager.start()
        stalled_check = Timer(
            self.opts["stalledInterval"] / 1000, self.runStalledJobsCheck, self.emit
        )
        try:
            async with asyncio.TaskGroup() as places:
                for number in range(self.opts["concurrency"]):
                    places.create_task(self._place(f"{self.id}:{number}"))
        finally:
            stalled_check.stop()

    async def _place(self, token: str) -> None:
        job: Job | None = None
        # A job that came with an answer after the stop is begun: the processor hands it back.
        while job is not None or not self._stop.is_set():
            job = await (self._next(token) if job is None else self._work(job, token))

    async def _next(self, token: str) -> Job | None:
        # One place asks at a time: where there is one job there may be more, else all would wait.
        async with self._fetching:
            pause = self._limited_until - time.monotonic()
            if pause > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), min(pause, LONGEST_PAUSE))
            if self._stop.is_set():
                return None
            return await self.retryIfFailed(
                lambda: self.getNextJob(token),
                {"delay_in_ms": self.opts["runRetryDelay"], "only_emit_error": True},
            )

    async def nextJobFromJobData(  # noqa: N802 -- the library's name
        self,
        job_data: dict[str, str] | None = None,
        job_id: str | None = None,
        limit_until: int | None = 0,
        delay_until: int | None = 0,
        token: str | None = None,
    ) -> Job | None:
        """Make the job of what a script answered, and note for how long there will be none."""
        limit = limit_until or 0
        data = _whole_milliseconds(job_data) if job_data else job_data
        job = await super().nextJobFromJobData(data, job_id, limit, delay_until or 0, token)
        if limit > 0:
            # Not out of jobs: nothing will be announced when the limit is over.
            self._limited_until = time.monotonic() + limit / 1000
            self.drained = False
        return job

    async def _work(self, job: Job, token: str) -> Job | None:
        """Do the job and report what came of it; return the next one if the queue gave one."""
        self.lockManager.track_job(job.id, token, int(time.time() * 1000))
        try:
            answer = await self._do(job, token)
        except Exception as error:
            self.emit("error", error, job)
            return None
        finally:
            self.lockManager.untrack_job(job.id)
        if answer is None:
            return None
        data, job_id, limit_until, delay_until = answer
        try:
            return await self.nextJobFromJobData(data, job_id, limit_until, delay_until, token)
        except Exception as error:
            # It is nobody's until it counts as stalled, which it does up to a limit.
            self.emit("error", error, None)
            return None

    async def _do(self, job: Job, token: str) -> list[Any] | None:
        for option in ("removeOnComplete", "removeOnFail"):
            if option in self.opts:
                job.opts.setdefault(option, self.opts[option])
        try:
            value = await self._process(job, token)
        except (DelayedError, WaitingChildrenError):
            return None
        except Exception as error:
            try:
                await job.moveToFailed(error, token)
            except TypeError:
                if not await self._is_settled(job):
                    raise
            self.emit("failed", job, error)
            return None
        answer = None
        try:
            moved = await self.backend.moveToCompleted(
                job,
                value,
                job.opts.get("removeOnComplete", False),
                token,
                fetch_next=not self._stop.is_set(),
            )
            answer = moved["result"]
        except TypeError:
            if not await self._is_settled(job):
                raise
        job.attemptsMade += 1
        self.emit("completed", job, value)
        return answer

    async def _process(self, job: Job, token: str) -> Any:
        if job.deferredFailure:
            raise UnrecoverableError(job.deferredFailure)
        return await self.processor(job, token)

    async def _is_settled(self, job: Job) -> bool:
        """Tell whether this worker's report was heard although the queue refuses it.

        So it is if the connection broke before the answer: sent again, it is refused, for the job
        is not in hand any more. (A job that leaves the queue when it ends leaves no trace.)
        """
        worker, started, finished = await self.client.hmget(
            self.backend.toKey(job.id), ["pb", "ats", "finishedOn"]
        )
        # Not if it was lost and taken again, be it by another place of this worker.
        if worker != self._name or started != str(job.attemptsStarted) or not finished:
            return False
        job.finishedOn = int(finished)
        return True


def _whole_milliseconds(job_data: dict[str, str]) -> dict[str, str]:
    """Return the job with times that the library can read: producers may give fractions of them."""
    fractional = {
        name: text.partition(".")[0]
        for name in ("timestamp", "delay", "processedOn", "finishedOn")
        if "." in (text := job_data.get(name) or "")
    }
    return {**job_data, **fractional}
