"""A small HTTP server on loopback, for stand-ins of services."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from email.message import Message
from typing import Literal, Self

Respond = Callable[[Message, bytes], tuple[int, bytes]]
"""Gives status and body of the answer to a request's headers and body."""


class HttpStandIn:
    """Answers requests of one method, any path, in a thread of its own; a context manager."""

    def __init__(
        self, method: Literal["GET", "POST"], respond: Respond, content_type: str | None = None
    ) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        def handle(request: http.server.BaseHTTPRequestHandler) -> None:
            body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
            status, answer = respond(request.headers, body)
            request.send_response(status)
            if content_type is not None:
                request.send_header("Content-Type", content_type)
            request.send_header("Content-Length", str(len(answer)))
            request.end_headers()
            request.wfile.write(answer)

        setattr(Handler, f"do_{method}", handle)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
