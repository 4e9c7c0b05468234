"""A pool of processes that do the work of the jobs, so that the event loop never blocks.

A job's whole work (read, compute, write) happens in one of these processes, on a database
connection of its own; only the job's payload goes in and a small result comes out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

import psycopg
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from workers.database import Database, is_passing, is_unavailable
from workers.errors import DatabaseUnavailableError

# Tries of a job's work within one attempt of the job, against what passes by itself.
ATTEMPTS = 6

_database: Database | None = None


def _die_with_the_worker() -> None:
    worker = multiprocessing.parent_process()
    if worker is not None:
        wait([worker.sentinel])
    os._exit(1)


def _start(database_url: str, application_name: str) -> None:
    """Prepare a process of the pool."""
    global _database
    # A terminal's Ctrl-C and a supervisor's SIGTERM reach the whole group; the worker decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_die_with_the_worker, daemon=True).start()
    _database = Database(database_url, application_name)


def _work(
    database: Database, work: Callable[..., Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    return dataclasses.asdict(work(database.connection(), **arguments))


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, psycopg.Error) and is_passing(error)


def _discard(_: RetryCallState) -> None:
    if _database is not None:
        _database.discard()


_retrying = Retrying(
    retry=retry_if_exception(_is_passing),
    wait=wait_random_exponential(multiplier=0.1, max=2),
    stop=stop_after_attempt(ATTEMPTS),
    before_sleep=_discard,
    reraise=True,
)


def _call(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if _database is None:
        raise RuntimeError("this process was not started by a pool")
    module, name = function.split(":")
    try:
        work = getattr(importlib.import_module(module), name)
        return _retrying(_work, _database, work, arguments)
    except psycopg.Error as error:
        _database.discard()
        if is_unavailable(error):
            raise DatabaseUnavailableError(str(error).strip()) from None
        # As text: psycopg's errors do not survive the way to another process whole.
        raise RuntimeError(f"{type(error).__name__}: {str(error).strip()}") from None
    except Exception:
        _database.discard()
        raise
    except BaseException as error:
        # A panic of a Rust extension, whose type the worker could not even unpickle.
        _database.discard()
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


class Pool:
    """Runs functions in up to `processes` processes, started as needed and replaced if they die."""

    def __init__(
        self, processes: int, database_url: str, application_name: str, preload: list[str]
    ) -> None:
        """Import the `preload` modules once, in the process the others are forked from."""
        self._processes = processes
        self._arguments = (database_url, application_name)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(preload)
        self._executor = self._new_executor()

    def _new_executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._processes, self._context, initializer=_start, initargs=self._arguments
        )

    async def run(self, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the dataclass `function(connection, **arguments)` makes in the pool, as a dict.

        The function is named, as `module:function`, so that only the pool imports what it needs.
        Raises DatabaseUnavailableError if Postgres is away, BrokenProcessPool if the process was
        killed, and whatever the function raises.
        """
        executor = self._executor
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(executor, _call, function, arguments)
        except BrokenProcessPool:
            if self._executor is executor:  # the first of the jobs that broke with it
                executor.shutdown(wait=False)
                self._executor = self._new_executor()
            raise

    def kill(self) -> None:
        """End the processes at once; Postgres rolls back what they were doing."""
        processes: dict[int, Any] = getattr(self._executor, "_processes", None) or {}
        for process in list(processes.values()):
            process.kill()
        self._executor.shutdown(wait=False, cancel_futures=True)
