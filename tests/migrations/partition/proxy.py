"""A TCP proxy that drops its connections after so many bytes, as networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit


class DroppingProxy:
    """Forwards to a port of the loopback interface until `drop_after` bytes of answers are through.

    Then all connections are reset, and new ones too, until `allow` is called. What the clients sent
    meanwhile did arrive: `silent` seconds long their answers are swallowed first.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._left: int | None = None
        self._silent = 0.0
        self._open: set[socket.socket] = set()
        self.dropped = False

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def url_for(self, url: str) -> str:
        """Return the URL through the proxy of what `url` leads to."""
        parts = urlsplit(url)
        place = parts.netloc.replace(f":{self._target}", f":{self.port}")
        return urlunsplit(parts._replace(netloc=place))

    def drop_after(self, answered: int, silent: float = 0.0) -> None:
        """Drop everything once that many more bytes of answers were forwarded."""
        with self._lock:
            self._left, self._silent, self.dropped = answered, silent, False

    def allow(self) -> None:
        """Forward without end again."""
        with self._lock:
            self._left, self.dropped = None, False

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.dropped:
                _reset(client)
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open |= {client, server}
            for source, sink, counts in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._forward, args=(source, sink, counts), daemon=True
                ).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop()

    def _forward(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counts and not self._pass(len(data)):
                    time.sleep(self._silent)
                    self._drop()
                    return
                sink.sendall(data)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _pass(self, length: int) -> bool:
        with self._lock:
            if self._left is None:
                return True
            self._left -= length
            return self._left >= 0

    def _drop(self) -> None:
        self.dropped = True
        for side in list(self._open):
            _reset(side)
        self._open.clear()


def _reset(side: socket.socket) -> None:
    """Close with RST, as a network that has forgotten the connection answers."""
    with contextlib.suppress(OSError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
    side.close()


@contextlib.contextmanager
def dropping_proxy(target: int) -> Iterator[DroppingProxy]:
    """Run a proxy before a port of the loopback interface."""
    proxy = DroppingProxy(target)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
