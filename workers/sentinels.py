"""Connections that leave a server that is no primary any more, and that ask Sentinels who is.

A server that was demoted may keep its connections, and answer all that only reads: who writes has
to leave it by itself, for the address may lead to another by now.

redis-py has such connections too, but when one of those breaks, the next command connects it to
the same server again, for ever, although Sentinels have made another the primary. So here they are
asked where every way of connecting passes.
"""

# redis-py's own annotations are incomplete.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis import connection as blocking
from redis.asyncio import connection as asynchronous
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

if TYPE_CHECKING:
    from redis.asyncio.sentinel import Sentinel
    from redis.sentinel import Sentinel as BlockingSentinel

DEMOTED = "the server is no primary any more"


class LeavingConnection(asynchronous.Connection):
    """A connection that ends when its server turns out to be a replica."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the next answer. Raises ConnectionError where the server was demoted."""
        try:
            answer = await super().read_response(*args, **options)
        except ReadOnlyError:
            await self.disconnect()
            raise RedisConnectionError(DEMOTED) from None
        # That of a transaction has the errors of its commands within it.
        if isinstance(answer, list) and any(isinstance(each, ReadOnlyError) for each in answer):
            await self.disconnect()
            raise RedisConnectionError(DEMOTED)
        return answer


class SecureLeavingConnection(LeavingConnection, asynchronous.SSLConnection):
    """The same over TLS."""


class PrimaryConnection(LeavingConnection):
    """A connection to the server that the Sentinels call `primary`."""

    def __init__(self, *, sentinel: Sentinel, primary: str, **options: Any) -> None:
        self._sentinel = sentinel
        self._primary = primary
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._sentinel.discover_master(self._primary)
        await super()._connect()


class SecurePrimaryConnection(PrimaryConnection, asynchronous.SSLConnection):
    """The same over TLS."""


class BlockingPrimaryConnection(blocking.Connection):
    """A connection that blocks, for commands that only read."""

    def __init__(self, *, sentinel: BlockingSentinel, primary: str, **options: Any) -> None:
        self._sentinel = sentinel
        self._primary = primary
        super().__init__(**options)

    def _connect(self) -> Any:
        self.host, self.port = self._sentinel.discover_master(self._primary)
        return super()._connect()


class SecureBlockingPrimaryConnection(BlockingPrimaryConnection, blocking.SSLConnection):
    """The same over TLS."""
