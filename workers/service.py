"""What every program has: logs, the metrics server, and an orderly end on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry

from workers import logs
from workers.server import MetricsServer, Missing
from workers.settings import Settings

logger = logging.getLogger(__name__)

EXIT_NOW = 128 + signal.SIGTERM

# How long a task may take for its end before it is asked for once more.
ASKED_AGAIN_SECONDS = 1.0


class ServiceError(Exception):
    """The program cannot start; the message says why."""


class Stop:
    """The wish to stop: set by the first SIGTERM or SIGINT; the second ends the process at once."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.before_exit: Callable[[], None] = lambda: None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received, signal.Signals(number).name)

    def _received(self, name: str) -> None:
        if not self.requested.is_set():
            logger.info("%s: stopping; a second one ends this at once", name)
            self.requested.set()
            return
        logger.warning("%s again: ending now", name)
        self.before_exit()
        logging.shutdown()
        os._exit(EXIT_NOW)


async def stopped_before(work: Awaitable[Any], stop: Awaitable[Any]) -> bool:
    """Wait for either; tell whether it was the stop, with the work not done yet.

    Work that is a task is left running then, anything else is cancelled.
    """
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(stop)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return not tasks[0].done()
    finally:
        tasks[1].cancel()
        if tasks[0] is not work:
            tasks[0].cancel()


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended, whatever their outcome.

    One that goes on is asked again: before Python 3.12 `asyncio.wait_for`, by which redis-py sends,
    loses a cancellation that comes together with what it waited for.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=ASKED_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


def run(
    name: str,
    settings: Settings,
    registry: CollectorRegistry,
    missing: Missing,
    body: Callable[[Stop], Awaitable[None]],
) -> None:
    """Run the body until it returns, which it does soon after a stop was requested.

    Raises ServiceError if the metrics server cannot listen.
    """
    logs.configure(settings.log_format, settings.log_level)
    asyncio.run(_run(name, settings, registry, missing, body))


async def _run(
    name: str,
    settings: Settings,
    registry: CollectorRegistry,
    missing: Missing,
    body: Callable[[Stop], Awaitable[None]],
) -> None:
    stop = Stop()
    try:
        server = MetricsServer(settings.metrics_host, settings.metrics_port, registry, missing)
    except OSError as error:
        raise ServiceError(
            f"METRICS_HOST, METRICS_PORT: cannot listen on "
            f"{settings.metrics_host}:{settings.metrics_port}: {error.strerror}"
        ) from None
    logger.info("%s started, metrics on %s/metrics", name, server.url)
    try:
        await body(stop)
    finally:
        server.close()
    logger.info("%s stopped", name)
