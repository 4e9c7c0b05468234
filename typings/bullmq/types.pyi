from typing import Any, TypedDict

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
    removeOnComplete: dict[str, int]
    removeOnFail: dict[str, int]
    limiter: dict[str, int]
    metrics: dict[str, int]
