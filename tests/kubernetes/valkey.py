"""ElastiCache for pods: a real Valkey with the stack's user, behind TLS at ElastiCache's port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import valkey

from tests.kubernetes.addresses import free_address
from tests.kubernetes.certificates import Authority
from tests.rds import pipe
from tests.servers import ValkeyServer, running_valkey

PORT = 6379


@dataclass(frozen=True)
class Queue:
    """A queue's store; `server` is what lies behind, open to its administrator without TLS."""

    server: ValkeyServer
    host: str
    """An address of loopback."""
    authority: Authority

    def url(self, user: str, password: str) -> str:
        return f"rediss://{user}:{password}@{self.host}:{PORT}/0"

    def set_user(self, name: str, password: str, access: str) -> None:
        """Make or change a user; open connections of an old password stay, as at ElastiCache."""
        client: valkey.Valkey = self.server.client()
        # Rules are set one by one upon what is there: begin from nothing, but not with a reset,
        # which would end the user's connections.
        rules = ["resetpass", "resetkeys", "resetchannels", "-@all", f">{password}"]
        client.execute_command("ACL", "SETUSER", name, *rules, *access.split())


@contextmanager
def running_queue(authority: Authority) -> Iterator[Queue]:
    """Run a Valkey behind TLS at port 6379 on an address of its own; nobody may come in yet."""
    host = free_address(PORT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(f"valkey-{host}", [host]))
    with running_valkey() as server, _terminating(context, host, server.port):
        yield Queue(server, host, authority)


@contextmanager
def _terminating(context: ssl.SSLContext, host: str, target: int) -> Iterator[None]:
    """Take TLS connections at host and PORT, and pass what they say to a port of loopback."""
    loop = asyncio.new_event_loop()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(connected, host, PORT, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
