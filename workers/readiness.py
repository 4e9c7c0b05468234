"""Watching the servers a program depends on: what `/readyz` reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from connections import authentication
from workers.connections import redis_options
from workers.database import CONNECTION_OPTIONS
from workers.sentinels import DEMOTED
from workers.service import ended

logger = logging.getLogger(__name__)

# Seconds between looks: while all is well, and while something is missing (doubled up to the
# former).
INTERVAL = 5.0
FIRST_RETRY = 0.2
TIMEOUT = 6.0

Probe = Callable[[], Awaitable[None]]


class Dependencies:
    """Keeps looking at Postgres and Valkey and remembers what is wrong with them."""

    def __init__(self, database_url: str, redis_url: str, application_name: str) -> None:
        self._database_url = database_url
        self._postgres: psycopg.AsyncConnection | None = None
        self._valkey = Redis(**redis_options(redis_url), retry=Retry(NoBackoff(), 0))
        self._application_name = application_name
        self._problems = {"postgres": "not looked at yet", "valkey": "not looked at yet"}
        self._all_there = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def missing(self) -> list[str]:
        """Return what is missing, one line each."""
        return [f"{name}: {problem}" for name, problem in self._problems.items() if problem]

    async def wait(self) -> None:
        """Wait until everything is there."""
        await self._all_there.wait()

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._watch("postgres", self._probe_postgres)),
            asyncio.create_task(self._watch("valkey", self._probe_valkey)),
        ]

    async def stop(self) -> None:
        await ended(*self._tasks)
        if self._postgres is not None:
            await self._postgres.close()
        with suppress(Exception):
            await self._valkey.aclose()

    async def _watch(self, name: str, probe: Probe) -> None:
        retry = FIRST_RETRY
        while True:
            try:
                async with asyncio.timeout(TIMEOUT):
                    await probe()
            except Exception as error:
                self._note(name, str(error).strip() or type(error).__name__)
                await asyncio.sleep(retry)
                retry = min(retry * 2, INTERVAL)
            else:
                self._note(name, "")
                retry = FIRST_RETRY
                await asyncio.sleep(INTERVAL)

    def _note(self, name: str, problem: str) -> None:
        before = self._problems[name]
        self._problems[name] = problem
        if problem and problem != before:
            logger.warning("%s is not there, retrying: %s", name, problem)
        elif before and not problem:
            logger.info("%s is there", name)
        if self.missing():
            self._all_there.clear()
        else:
            self._all_there.set()

    async def _probe_postgres(self) -> None:
        if self._postgres is None:
            # In a thread, for a token may have to be asked for.
            login = await asyncio.to_thread(authentication.parameters, self._database_url)
            self._postgres = await psycopg.AsyncConnection.connect(
                self._database_url,
                autocommit=True,
                application_name=self._application_name,
                **CONNECTION_OPTIONS,
                **login,
            )
        try:
            await self._postgres.execute("SELECT 1")
        except BaseException:
            await self._postgres.close()
            self._postgres = None
            raise

    async def _probe_valkey(self) -> None:
        # redis-py's own annotations are incomplete.
        told = await self._valkey.info("replication")  # pyright: ignore[reportUnknownMemberType]
        if told["role"] != "master":
            # Not to be asked again: the address may lead to another server by now.
            await self._valkey.connection_pool.disconnect()
            raise RedisConnectionError(DEMOTED)
