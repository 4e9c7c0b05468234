# ruff: noqa: A002, N802, N803, N815 -- the names are the library's
"""The part of bullmq that workers/ uses; the package itself carries no type information."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypedDict, TypeVar

from bullmq.types import WorkerOptions
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

Answer = TypeVar("Answer")

class QueueOptions(TypedDict, total=False):
    connection: dict[str, Any]
    prefix: str

class Job:
    id: str
    name: str
    data: Any
    opts: dict[str, Any]
    delay: int
    timestamp: int
    attemptsMade: int
    attemptsStarted: int
    processedOn: int
    deferredFailure: str | None
    finishedOn: int | None
    failedReason: str | None
    returnvalue: Any
    async def moveToFailed(self, err: Exception, token: str) -> Any: ...
    async def moveToDelayed(self, timestamp: int, token: str) -> None: ...
    async def moveToWaitingChildren(self, token: str, opts: dict[str, Any]) -> bool | None: ...
    async def updateData(self, data: Any) -> None: ...
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

class FlowProducer:
    backend: Backend
    def __init__(self, redisOpts: QueueOptions) -> None: ...
    async def addBulk(self, flows: list[dict[str, Any]]) -> list[dict[str, Any]] | None: ...
    async def close(self) -> None: ...

class Scripts:
    commands: dict[str, AsyncScript | Callable[..., Awaitable[Any]]]

class Backend:
    conn: Redis
    scripts: Scripts
    def toKey(self, type: str) -> str: ...
    async def moveToCompleted(
        self,
        job: Job,
        return_value: Any,
        remove_on_complete: Any,
        token: str,
        fetch_next: bool = True,
    ) -> dict[str, Any]: ...
    async def moveToActive(self, token: str, opts: dict[str, Any]) -> list[Any]: ...

class LockManager:
    def start(self) -> None: ...
    def track_job(self, job_id: str, token: str, ts: int) -> None: ...
    def untrack_job(self, job_id: str) -> None: ...

class Worker:
    id: str
    opts: dict[str, Any]
    client: Redis
    bclient: Redis
    backend: Backend
    lockManager: LockManager
    processor: Callable[[Job, str], Awaitable[Any]]
    closing: bool
    drained: bool
    waiting: asyncio.Future[Any] | None
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
    def emit(self, event_name: str, *args: Any) -> None: ...
    async def run(self) -> None: ...
    async def getNextJob(self, token: str) -> Job | None: ...
    async def nextJobFromJobData(
        self,
        job_data: dict[str, str] | None = None,
        job_id: str | None = None,
        limit_until: int = 0,
        delay_until: int = 0,
        token: str | None = None,
    ) -> Job | None: ...
    async def retryIfFailed(
        self, fn: Callable[[], Awaitable[Answer]], opts: dict[str, Any] | None = None
    ) -> Answer | None: ...
    async def runStalledJobsCheck(self) -> None: ...
    async def _ensure_client_names(self) -> None: ...
    async def close(self, force: bool = False) -> None: ...
