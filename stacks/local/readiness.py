"""Waiting until a service answers."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Literal, cast

ProbeKind = Literal["http", "postgres", "valkey"]


class NotReadyError(Exception):
    """A service did not become ready."""


def ready(kind: ProbeKind, url: str) -> bool:
    """Ask the service at `url` once; true when it answers as a ready one does."""
    return _PROBES[kind](url)


def wait_until_ready(
    kind: ProbeKind, url: str, *, running: Callable[[], bool], seconds: float = 60
) -> None:
    """Ask until the service answers.

    Raises NotReadyError when `running` says that it ended, or after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not ready(kind, url):
        if not running():
            raise NotReadyError("it ended before it was ready")
        if time.monotonic() > deadline:
            raise NotReadyError(f"it was not ready within {seconds:.0f} s")
        time.sleep(0.1)


def _http(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310, our own URL
            return 200 <= response.status < 300
    except (OSError, urllib.error.URLError):
        return False


# The clients are imported where they are used: the program that only declares resources does
# without them.


def _postgres(url: str) -> bool:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def _valkey(url: str) -> bool:
    import redis

    client = cast(Any, redis.Redis).from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


_PROBES: dict[ProbeKind, Callable[[str], bool]] = {
    "http": _http,
    "postgres": _postgres,
    "valkey": _valkey,
}
