"""HTTP server of `/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry

from workers import exposition

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Missing = Callable[[], list[str]]


class _QuietHandler(WSGIRequestHandler):
    disable_nagle_algorithm = True  # else the body waits for the client to confirm the head
    timeout = 10  # a client that sends nothing must not hold a thread for ever

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        pass


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The base asks the name service for our host name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


def application(registry: CollectorRegistry, missing: Missing) -> WSGIApplication:
    """Return the WSGI application; `missing` names what the program lacks to do its work."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/metrics":
                start_response("200 OK", [("Content-Type", exposition.CONTENT_TYPE)])
                return [exposition.text(registry)]
            case "/healthz":
                status, body = "200 OK", "ok"
            case "/readyz":
                lacking = missing()
                status = "503 Service Unavailable" if lacking else "200 OK"
                body = "\n".join(lacking) or "ok"
            case _:
                status, body = "404 Not Found", "try /metrics, /healthz or /readyz"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [body.encode() + b"\n"]

    return app


class MetricsServer:
    """Serves from a thread of its own until closed."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, missing: Missing) -> None:
        """Listen on host and port (0: any). Raises OSError if that is not possible."""
        self._server = _Server((host, port), _QuietHandler)
        self._server.set_app(application(registry, missing))
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
