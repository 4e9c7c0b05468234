"""Connections to Valkey: options from the URL, and reconnecting that fits a queue worker.

A URL names the server, or Sentinels that know which server is the primary at the moment:
`redis+sentinel://user:password@host:26379,host:26379/0?primary=NAME`, `rediss+sentinel` for TLS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit, urlunsplit

import redis.sentinel
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry as BlockingRetry

from workers.sentinels import (
    BlockingPrimaryConnection,
    LeavingConnection,
    PrimaryConnection,
    SecureBlockingPrimaryConnection,
    SecureLeavingConnection,
    SecurePrimaryConnection,
)

# Longer than the 10 seconds a worker's blocking wait for jobs may take.
SOCKET_TIMEOUT = 15
CONNECT_TIMEOUT = 5
# A Sentinel that does not answer in this time is passed over for the next.
SENTINEL_TIMEOUT = 1.0
SENTINEL_PORT = 26379

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")


_LEAVING: dict[type[Any], type[Any]] = {
    Connection: LeavingConnection,
    SSLConnection: SecureLeavingConnection,
}


@dataclass(frozen=True)
class Address:
    """Where a URL leads: to the server itself, or to `sentinels` that know the one of `primary`.

    `options` are redis-py's for the server's connections, `sentinel_options` for the Sentinels'.
    """

    options: dict[str, Any]
    sentinels: list[tuple[str, int]]
    primary: str
    sentinel_options: dict[str, Any]


def parse(url: str) -> Address:
    """Read the URL. Raises ValueError, without anything secret, if it is none of ours."""
    parts = _split(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise ValueError("takes a URL like redis://user:password@host:port/database")
    if "+" not in parts.scheme:
        _host_and_port(parts.netloc.rpartition("@")[2])
        return Address(_options(url), [], "", {})
    login, _, hosts = parts.netloc.rpartition("@")
    query = parse_qs(parts.query)
    primary = query.pop("primary", [""])[0]
    if not primary:
        raise ValueError("takes the name of the primary, as the Sentinels know it: ?primary=NAME")
    sentinel_login = {
        name: query.pop(f"sentinel_{name}")[0]
        for name in ("username", "password")
        if f"sentinel_{name}" in query
    }
    sentinels = [_host_and_port(host) for host in hosts.split(",")]
    scheme = parts.scheme.partition("+")[0]
    place = f"{login}@localhost" if login else "localhost"
    rest = urlencode(query, doseq=True)
    options = _options(urlunsplit((scheme, place, parts.path, rest, "")))
    options.pop("host", None)
    secured = {name: value for name, value in options.items() if name.startswith("ssl")}
    patience = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
    return Address(options, sentinels, primary, {**sentinel_login, **secured, **patience})


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if "," not in parts.netloc:
            _ = parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    return parts


def _host_and_port(text: str) -> tuple[str, int]:
    parts = _split(f"//{text}")
    if not parts.hostname:
        raise ValueError("takes a URL like redis://user:password@host:port/database")
    return parts.hostname, SENTINEL_PORT if parts.port is None else parts.port


def _options(url: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = {**parse_url(url)}
    except ValueError:
        # What redis-py says of it may show the password.
        raise ValueError("has an option, after the ?, that redis-py does not take") from None
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        **options,
    }


def redis_options(url: str) -> dict[str, Any]:
    """Return the URL as keyword arguments of an asynchronous client of redis-py.

    With Sentinels, the primary is asked for anew whenever a connection is made.
    """
    address = parse(url)
    if not address.sentinels:
        return address.options
    options = {**address.options}
    pool = ConnectionPool(
        connection_class=SecurePrimaryConnection if options.pop("ssl", 0) else PrimaryConnection,
        sentinel=_sentinel(Sentinel, address),
        primary=address.primary,
        decode_responses=True,
        **options,
    )
    return {"connection_pool": pool}


def _sentinel(kind: Any, address: Address, **options: Any) -> Any:
    # A Sentinel that does not answer is passed over at once. (redis-py's own annotations are
    # incomplete.)
    return kind(address.sentinels, sentinel_kwargs={**address.sentinel_options, **options})


def new_blocking_client(url: str, **options: Any) -> redis.Redis:
    """Return a client that blocks, with these options of redis-py in place of the URL's."""
    address = parse(url)
    merged = {**address.options, **options}
    if not address.sentinels:
        return redis.Redis(**merged)
    secure = merged.pop("ssl", False)
    patience = min(SENTINEL_TIMEOUT, merged["socket_connect_timeout"])
    pool = redis.ConnectionPool(
        connection_class=SecureBlockingPrimaryConnection if secure else BlockingPrimaryConnection,
        sentinel=_sentinel(
            redis.sentinel.Sentinel,
            address,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=BlockingRetry(NoBackoff(), 0),
        ),
        primary=address.primary,
        **merged,
    )
    return redis.Redis(connection_pool=pool)


def leave_the_demoted(client: Redis) -> None:
    """Make a client that has no connection yet connect anew when its server is a replica now."""
    pool = client.connection_pool
    pool.connection_class = _LEAVING.get(pool.connection_class, pool.connection_class)


def reconnect_patiently(client: Redis) -> None:
    """Make every command wait for the primary to come back, looking about once a second.

    What a job has computed must not be lost because Valkey restarts in between. For a client that
    has no connection yet.
    """
    leave_the_demoted(client)
    client.set_retry(Retry(ExponentialWithJitterBackoff(cap=1, base=0.05), retries=-1))
