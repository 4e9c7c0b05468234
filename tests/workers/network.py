"""A stretch of network between a program and a server: it can be cut, counts, and speaks TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit


class Network:
    """Forwards connections from a loopback port of its own to another.

    While it is cut nothing passes, and nothing is closed or refused: what is sent is held back, as
    by a network that loses every packet until it is mended.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self.exchanges = 0
        """How often the client had something to say after the server had said something."""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        started = threading.Event()
        threading.Thread(target=self._run, args=[started], daemon=True).start()
        started.wait(10)

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.set)

    def lead_to(self, target: int) -> None:
        """Connect to another port from now on; connections that are open stay where they are."""
        self._target = target

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, started: threading.Event) -> None:
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        with contextlib.suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            says = Turn()
            await asyncio.gather(
                self._pass(reader, server_writer, says, "client"),
                self._pass(server_reader, writer, says, "server"),
            )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, says: Turn, who: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._whole.wait()
                if who == "client" and says.last != who:
                    self.exchanges += 1
                says.last = who
                writer.write(data)
                await writer.drain()
        writer.close()


class Turn:
    """Who spoke last on a connection."""

    last = "server"


@contextmanager
def network_to(port: int, tls: ssl.SSLContext | None = None) -> Iterator[Network]:
    network = Network(port, tls)
    try:
        yield network
    finally:
        network.stop()


def through(url: str, network: Network, scheme: str | None = None) -> str:
    """Return the URL with the network's port, and another scheme if one is given."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition(":")[0]
    return urlunsplit(
        parts._replace(scheme=scheme or parts.scheme, netloc=f"{address}:{network.port}")
    )
