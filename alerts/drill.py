"""Drills: provoke a real failure on a running stack and see the alert arrive in Alertmanager.

Both drills use jobs for the queue `fsrs-optimization` that name no actor, so whatever happens to
the drill, none of them can change a row: the worker refuses them, at once or, where they are left
over, when their delay is over. Their ids begin with `drill-`, by which `remove_jobs` finds them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from bullmq import Queue
from redis import Redis
from redis.exceptions import RedisError

from alerts.monitoring import Monitoring, MonitoringError
from alerts.settings import DrillSettings

QUEUE = "fsrs-optimization"
ID_PREFIX = "drill-"
DAY_MILLISECONDS = 86_400_000
POLL_SECONDS = 2.0
REPORT_SECONDS = 30.0
# A server that restarts during the drill is waited for.
PATIENCE_SECONDS = 60.0


class DrillError(Exception):
    """The drill was refused, or the alert did not come; the message says why."""


@dataclass(frozen=True)
class Drill:
    """A failure and the alert it has to raise.

    `at_once` jobs are added at the beginning, `rate` a second after that. With a delay they stay in
    the queue, which goes on working on everything else; without one a worker takes and refuses
    them. `needs` is a query that must have a value above 0, else the alert could never come.
    """

    name: str
    alert: str
    what: str
    at_once: int
    rate: float
    delay_milliseconds: int
    minutes: float
    needs: str
    otherwise: str


DRILLS = {
    drill.name: drill
    for drill in (
        Drill(
            name="queue-growth",
            alert="QueueGrowing",
            what="jobs that are not due before tomorrow, one a second, so that the queue grows",
            at_once=110,
            rate=1,
            delay_milliseconds=DAY_MILLISECONDS,
            minutes=17,
            needs=f'count(bullmq_queue_size{{queue="{QUEUE}"}})',
            otherwise="Prometheus has no bullmq_queue_size of the queue: is the exporter running?",
        ),
        Drill(
            name="job-failures",
            alert="JobFailureRateHigh",
            what="malformed jobs, one a second, which the worker refuses",
            at_once=20,
            rate=1,
            delay_milliseconds=0,
            minutes=6,
            needs=f'max(bullmq_workers{{queue="{QUEUE}"}})',
            otherwise="Prometheus knows of no worker of the queue: is it running?",
        ),
    )
}


async def run(
    drill: Drill,
    settings: DrillSettings,
    *,
    timeout_seconds: float,
    until_resolved: bool,
    say: Callable[[str], None],
) -> None:
    """Provoke the failure, wait for the alert, and take the jobs away again, whatever happens.

    Raises DrillError if something is missing, or the alert does not come in time.
    """
    monitoring = Monitoring(
        settings.prometheus_url.get_secret_value(), settings.alertmanager_url.get_secret_value()
    )
    await asyncio.to_thread(_require_valkey, settings)
    await asyncio.to_thread(_require, drill, monitoring)
    queue = _queue(settings)
    try:
        await _remove(queue)
        say(f"adding {drill.what}")
        say(f"{drill.alert} should arrive in about {drill.minutes:g} minutes; Ctrl-C cleans up")
        adding = asyncio.create_task(_add(queue, drill))
        try:
            watch = _Watch(drill, monitoring, adding, say)
            await watch.until_notified(timeout_seconds)
        finally:
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)
            removed = await _remove(queue)
            say(f"the drill's jobs are gone ({removed} were left to remove)")
    finally:
        await queue.close()
    if until_resolved:
        await _until_resolved(drill, monitoring, timeout_seconds, say)


async def remove_jobs(settings: DrillSettings) -> int:
    """Remove the jobs of drills that were killed, and return their number. Raises DrillError."""
    await asyncio.to_thread(_require_valkey, settings)
    queue = _queue(settings)
    try:
        return await _remove(queue)
    finally:
        await queue.close()


def _queue(settings: DrillSettings) -> Queue:
    # A URL is taken too, though the declared type wants a dictionary.
    connection = cast(Any, settings.redis_url.get_secret_value())
    return Queue(QUEUE, {"connection": connection, "prefix": settings.queue_prefix})


def _require_valkey(settings: DrillSettings) -> None:
    # The queue's own connection would wait for the server without end.
    url = settings.redis_url.get_secret_value()
    try:
        with Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:  # pyright: ignore[reportUnknownMemberType]
            client.ping()  # pyright: ignore[reportUnknownMemberType]
    except (RedisError, OSError) as error:
        raise DrillError(f"Valkey does not answer (REDIS_URL): {error}") from None


def _require(drill: Drill, monitoring: Monitoring) -> None:
    if not monitoring.has_rule(drill.alert):
        raise DrillError(f"Prometheus has no alert {drill.alert}: are the rules loaded?")
    if not (monitoring.value(drill.needs) or 0) > 0:
        raise DrillError(drill.otherwise)
    state = monitoring.state(drill.alert, QUEUE)
    if state != "inactive" or monitoring.notified(drill.alert, QUEUE):
        raise DrillError(
            f"{drill.alert} is {state if state != 'inactive' else 'not over'} for {QUEUE} already: "
            "that is no drill, or the last one; try again when it is over"
        )


async def _add(queue: Queue, drill: Drill) -> None:
    added, started = 0, time.monotonic()
    while True:
        due = drill.at_once + int((time.monotonic() - started) * drill.rate)
        if due > added:
            await queue.addBulk([_job(drill, number) for number in range(added, due)])
            added = due
        await asyncio.sleep(0.2)


def _job(drill: Drill, number: int) -> dict[str, Any]:
    return {
        "name": "drill",
        "data": {"actorId": ID_PREFIX + drill.name},
        "opts": {
            "jobId": f"{ID_PREFIX}{drill.name}-{number}",
            "attempts": 1,
            "delay": drill.delay_milliseconds,
            # Nothing is left of a refused job, and it holds no other one back.
            "removeOnFail": True,
            "removeOnComplete": True,
        },
    }


async def _remove(queue: Queue) -> int:
    """Remove the drills' jobs and return their number. Raises DrillError if Valkey is away."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await _remove_all(queue)
    except (TimeoutError, RedisError, OSError) as error:
        raise DrillError(
            "the drill's jobs could not be removed: remove them with `python -m alerts drill "
            f"--clean` once Valkey is back ({error or 'it does not answer'})"
        ) from None


async def _remove_all(queue: Queue) -> int:
    client = cast(Any, queue.client)
    base = queue.toKey("")
    removed = 0
    async for key in client.scan_iter(match=f"{_literal(base)}{ID_PREFIX}*", count=1000):
        name = (key.decode() if isinstance(key, bytes) else str(key)).removeprefix(base)
        # A job has further keys below its own (`<id>:lock`), which go with it.
        if ":" not in name and await cast(Any, queue).remove(name):
            removed += 1
    return removed


def _literal(text: str) -> str:
    """Return a pattern of SCAN that matches just this text (a prefix may be `{bull}` or have *)."""
    return "".join(f"\\{character}" if character in "*?[]^\\" else character for character in text)


class _Watch:
    """Follows the alert from Prometheus to Alertmanager."""

    def __init__(
        self,
        drill: Drill,
        monitoring: Monitoring,
        adding: asyncio.Task[None],
        say: Callable[[str], None],
    ) -> None:
        self._drill = drill
        self._monitoring = monitoring
        self._adding = adding
        self._say = say

    async def until_notified(self, timeout_seconds: float) -> None:
        started = reported = answered = time.monotonic()
        known = ""
        while True:
            if self._adding.done():
                self._adding.result()
            passed = time.monotonic() - started
            try:
                state, notified = await asyncio.to_thread(self._look)
                answered = time.monotonic()
            except MonitoringError as error:
                if time.monotonic() - answered > PATIENCE_SECONDS:
                    raise
                state, notified = f"unknown ({error})", None
            if state != known or time.monotonic() - reported >= REPORT_SECONDS:
                self._say(f"{_clock(passed)} {self._drill.alert} is {state}")
                known, reported = state, time.monotonic()
            if notified is not None:
                note = ", which holds it back (silenced or inhibited)" * (notified != "active")
                self._say(f"{_clock(passed)} Alertmanager has it{note}")
                return
            if passed > timeout_seconds:
                raise DrillError(
                    f"{self._drill.alert} did not arrive in Alertmanager within "
                    f"{_clock(timeout_seconds)}; in Prometheus it is {state}"
                )
            await asyncio.sleep(POLL_SECONDS)

    def _look(self) -> tuple[str, str | None]:
        alert = self._drill.alert
        return self._monitoring.state(alert, QUEUE), self._monitoring.notified(alert, QUEUE)


async def _until_resolved(
    drill: Drill, monitoring: Monitoring, timeout_seconds: float, say: Callable[[str], None]
) -> None:
    say("waiting until it is over")
    started = time.monotonic()
    while await asyncio.to_thread(monitoring.notified, drill.alert, QUEUE) is not None:
        if time.monotonic() - started > timeout_seconds:
            raise DrillError(f"{drill.alert} is not over after {_clock(timeout_seconds)}")
        await asyncio.sleep(POLL_SECONDS)
    say(f"{_clock(time.monotonic() - started)} {drill.alert} is over")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"
