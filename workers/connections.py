"""Connections to Valkey: options from the URL, and reconnecting that fits a queue worker."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

# Longer than the 10 seconds a worker's blocking wait for jobs may take.
SOCKET_TIMEOUT = 15
CONNECT_TIMEOUT = 5


def redis_options(url: str) -> dict[str, Any]:
    """Return the URL as keyword arguments of a redis-py client."""
    options: dict[str, Any] = {**parse_url(url)}
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        **options,
    }


def reconnect_patiently(client: Redis) -> None:
    """Make every command wait for the server to come back, looking about once a second.

    What a job has computed must not be lost because Valkey restarts in between.
    """
    client.set_retry(Retry(ExponentialWithJitterBackoff(cap=1, base=0.05), retries=-1))
