"""Connections that ask Sentinels for the primary each time they connect.

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


class PrimaryConnection(asynchronous.Connection):
    """A connection to the server that the Sentinels call `primary`."""

    def __init__(self, *, sentinel: Sentinel, primary: str, **options: Any) -> None:
        self._sentinel = sentinel
        self._primary = primary
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._sentinel.discover_master(self._primary)
        await super()._connect()

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the next answer. Raises ConnectionError where the server was demoted."""
        try:
            return await super().read_response(*args, **options)
        except ReadOnlyError:
            await self.disconnect()
            raise RedisConnectionError(DEMOTED) from None


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
