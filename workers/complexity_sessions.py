"""Several sessions on the same database, for what one calculation can do at the same time.

Postgres works on one statement of a session at a time, and most of ours on one core: they write,
which its parallel queries do not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import psycopg

from connections import authentication
from workers.database import CONNECTION_OPTIONS

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

SETTINGS = ("timezone", "statement_timeout", "client_connection_check_interval")


class Sessions:
    """A connection and others like it, each with at most one piece of work in hand.

    A context manager: leaving it waits for what runs and drops what has not begun.
    """

    def __init__(self, connection: psycopg.Connection, count: int) -> None:
        """Open connections until there are `count`, or as many as the server allows."""
        self._stack = ExitStack()
        self._free: SimpleQueue[psycopg.Connection] = SimpleQueue()
        self._free.put(connection)
        opened = 1
        while opened < count:
            try:
                self._free.put(self._stack.enter_context(another_session(connection)))
            except psycopg.OperationalError as error:
                logger.warning("going on with %d connections: %s", opened, str(error).strip())
                break
            opened += 1
        self._threads = ThreadPoolExecutor(opened, "session")
        self.count = opened

    def submit(
        self,
        work: Callable[Concatenate[psycopg.Connection, Arguments], Answer],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Answer]:
        """Have `work` done on the next connection that is free; in the order of submission."""

        def run() -> Answer:
            connection = self._free.get()
            try:
                return work(connection, *args, **kwargs)
            finally:
                self._free.put(connection)

        return self._threads.submit(run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._stack.close()


def another_session(connection: psycopg.Connection) -> psycopg.Connection:
    """Open a session in autocommit to where `connection` leads, with its settings."""
    url = connection.info.dsn  # without the password
    options: dict[str, Any] = {
        **CONNECTION_OPTIONS,
        "password": connection.info.password,
        **authentication.parameters(url),
    }
    session = psycopg.connect(url, autocommit=True, **options)
    for name in SETTINGS:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
        session.execute("SELECT set_config(%s, %s, false)", [name, row[0] if row else ""])
    return session
