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
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
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


def _serve(connection: Connection, database_url: str, application_name: str) -> None:
    """Be a process of the pool: answer each request, `(function, arguments)`, in turn."""
    _start(database_url, application_name)
    while True:
        try:
            function, arguments = pickle.loads(connection.recv_bytes())  # noqa: S301 -- our own
        except EOFError:
            return
        try:
            answer = (_call(function, arguments), None)
        except Exception as error:
            answer = (None, error)
        connection.send_bytes(_pickled(answer))


def _pickled(answer: tuple[Any, Exception | None]) -> bytes:
    try:
        packed = pickle.dumps(answer)
        if answer[1] is not None:
            # Some errors can be packed and not unpacked.
            pickle.loads(packed)  # noqa: S301 -- our own
    except Exception as error:
        told = answer[1] or error
        return pickle.dumps((None, RuntimeError(f"{type(told).__name__}: {told}")))
    return packed


class _Process:
    """One process of the pool, with at most one request in hand."""

    def __init__(self, context: ForkServerContext, arguments: tuple[str, str]) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.answer: asyncio.Future[dict[str, Any]] | None = None

    def receive(self) -> None:
        """Pass the answer on. Raises EOFError or OSError if the process is gone."""
        value, error = pickle.loads(self.connection.recv_bytes())  # noqa: S301 -- our own
        answer, self.answer = self.answer, None
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)


class Pool:
    """Runs functions in up to `processes` processes, started as needed and replaced if they die.

    The event loop itself talks to them: a thread between, as an executor has, costs a small job
    more than the job.
    """

    def __init__(
        self, processes: int, database_url: str, application_name: str, preload: list[str]
    ) -> None:
        """Import the `preload` modules once, in the process the others are forked from."""
        self._most = processes
        self._arguments = (database_url, application_name)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(preload)
        self._processes: set[_Process] = set()
        self._starting = 0
        self._idle: list[_Process] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._given_up: Exception | None = None
        self._killed = False

    async def run(self, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the dataclass `function(connection, **arguments)` makes in the pool, as a dict.

        The function is named, as `module:function`, so that only the pool imports what it needs.
        Raises DatabaseUnavailableError if Postgres is away, BrokenProcessPool if the process was
        killed, and whatever the function raises.
        """
        if self._given_up:
            raise self._given_up
        process = await self._free_process()
        if self._given_up:
            # While the process was started.
            self._idle.append(process)
            self._call_next()
            raise self._given_up
        answer = process.answer = asyncio.get_running_loop().create_future()
        try:
            process.connection.send_bytes(pickle.dumps((function, arguments)))
        except OSError:
            self._lose(process)
        return await answer

    def give_up(self, error: Exception) -> None:
        """Let every call, and every later one, raise the error; what runs is not waited for."""
        self._given_up = error
        answers = [process.answer for process in self._processes]
        for future in [*self._waiting, *answers]:
            if future is not None and not future.done():
                future.set_exception(error)

    def kill(self) -> None:
        """End the processes at once; Postgres rolls back what they were doing."""
        self._killed = True
        for process in self._processes:
            process.process.kill()

    async def _free_process(self) -> _Process:
        line_up = self._waiting.append
        while not self._idle:
            if len(self._processes) + self._starting < self._most:
                return await self._new_process()
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            line_up(place)
            await place
            # Who is called and finds the process taken goes first again.
            line_up = self._waiting.appendleft
        return self._idle.pop()

    async def _new_process(self) -> _Process:
        self._starting += 1
        try:
            # In a thread, for the first one waits for the imports.
            process = await asyncio.to_thread(self._start_process)
        except BaseException:
            # Who waits for it fails to start one, too, or succeeds.
            self._call_next()
            raise
        finally:
            self._starting -= 1
        self._processes.add(process)
        asyncio.get_running_loop().add_reader(process.connection.fileno(), self._readable, process)
        return process

    def _start_process(self) -> _Process:
        process = _Process(self._context, self._arguments)
        if self._killed:
            process.process.kill()
        return process

    def _readable(self, process: _Process) -> None:
        try:
            process.receive()
        except (EOFError, OSError):
            self._lose(process)
        else:
            self._idle.append(process)
            self._call_next()

    def _lose(self, process: _Process) -> None:
        """Forget a process that died; who waits for one may start another."""
        if process not in self._processes:
            return
        asyncio.get_running_loop().remove_reader(process.connection.fileno())
        process.connection.close()
        self._processes.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        if process.answer is not None and not process.answer.done():
            process.answer.set_exception(BrokenProcessPool("the process of the job was killed"))
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
