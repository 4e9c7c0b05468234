# ruff: noqa: A002, N802, N815 -- the names are the library's
"""The part of bullmq that workers/ uses; the package itself carries no type information."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypedDict

from redis.asyncio import Redis

class QueueOptions(TypedDict, total=False):
    connection: dict[str, Any]
    prefix: str

class WorkerOptions(TypedDict, total=False):
    connection: dict[str, Any]
    prefix: str
    name: str
    autorun: bool
    concurrency: int
    lockDuration: int
    stalledInterval: int
    maxStalledCount: int
    runRetryDelay: int

class Job:
    id: str
    name: str
    data: Any
    opts: dict[str, Any]
    delay: int
    attemptsMade: int
    finishedOn: int | None
    failedReason: str | None
    returnvalue: Any
    async def moveToDelayed(self, timestamp: int, token: str) -> None: ...
    async def getState(self) -> str: ...

class Queue:
    name: str
    client: Redis
    def __init__(self, name: str, opts: QueueOptions = ...) -> None: ...
    def toKey(self, type: str) -> str: ...
    async def add(self, name: str, data: Any, opts: dict[str, Any] = ...) -> Job: ...
    async def addBulk(self, jobs: list[dict[str, Any]]) -> list[Job]: ...
    async def clean(self, grace: int, limit: int, type: str) -> list[str]: ...
    async def getJob(self, job_id: str) -> Job | None: ...
    async def getJobCounts(self, *types: str) -> dict[str, int]: ...
    async def getJobSchedulers(self) -> list[dict[str, Any]]: ...
    async def upsertJobScheduler(
        self,
        job_scheduler_id: str,
        repeat_opts: dict[str, Any],
        job_name: str | None = None,
        job_data: Any = None,
        opts: dict[str, Any] | None = None,
    ) -> Job | None: ...
    async def pause(self) -> None: ...
    async def resume(self) -> None: ...
    async def close(self) -> None: ...

class Worker:
    client: Redis
    bclient: Redis
    processing: set[asyncio.Future[Any]]
    def __init__(
        self,
        name: str,
        processor: Callable[[Job, str], Awaitable[Any]],
        opts: WorkerOptions = ...,
    ) -> None: ...
    def on(
        self,
        event_name: Literal["completed", "failed", "stalled", "error"],
        function: Callable[..., None],
    ) -> Callable[..., None]: ...
    async def run(self) -> None: ...
    async def pause(self, do_not_wait_active: bool = False) -> None: ...
    async def close(self, force: bool = False) -> None: ...
