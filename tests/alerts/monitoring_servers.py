"""Real Prometheus, Alertmanager and receiver on loopback, thrown away after use."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent.parent


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def ask_prometheus(url: str, query: str, **parameters: str) -> list[dict[str, Any]]:
    """Return the series that answer a query, as Prometheus's API has them."""
    encoded = urllib.parse.urlencode({"query": query, **parameters})
    return get_json(f"{url}/api/v1/query?{encoded}")["data"]["result"]


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Return the condition's first true value; servers that do not answer yet count as false."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except (OSError, urllib.error.URLError):
            value = None
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def running(
    command: list[str],
    log: Path,
    ready_url: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; it must still run then, and end at SIGTERM."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
    try:
        if ready_url is not None:

            def ready() -> bool:
                assert process.poll() is None, f"{command[0]} ended:\n{log.read_text()}"
                with urllib.request.urlopen(ready_url, timeout=2) as response:
                    return response.status == 200

            wait_until(f"{command[0]} is ready", ready)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running_prometheus(program: str, directory: Path, configuration: str) -> Iterator[str]:
    """Run Prometheus with the given prometheus.yml in `directory`, and yield its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "prometheus.yml").write_text(configuration)
    command = [
        program,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address={url.removeprefix('http://')}",
        # Resending every 100 ms lets tests see an alert's end at once.
        "--rules.alert.resend-delay=100ms",
    ]
    with running(command, directory / "prometheus.log", f"{url}/-/ready"):
        yield url


@contextlib.contextmanager
def running_alertmanager(program: str, directory: Path, configuration: str) -> Iterator[str]:
    """Run Alertmanager with the given alertmanager.yml in `directory`, and yield its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "alertmanager.yml").write_text(configuration)
    command = [
        program,
        f"--config.file={directory}/alertmanager.yml",
        f"--storage.path={directory}/data",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]
    with running(command, directory / "alertmanager.log", f"{url}/-/ready"):
        yield url


@contextlib.contextmanager
def running_receiver(directory: Path) -> Iterator[str]:
    """Run `python -m alerts receiver` with its log in `directory`, and yield its URL."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "RECEIVER_PORT": str(port),
        "RECEIVER_LOG": str(directory / "alerts.jsonl"),
    }
    command = [sys.executable, "-m", "alerts", "receiver"]
    with running(command, directory / "receiver.log", f"{url}/healthz", environment):
        yield url


@dataclass
class Exposition:
    """Series that a test sets and Prometheus scrapes: text of the exposition format to value."""

    values: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        return "".join(f"{series} {value}\n" for series, value in list(self.values.items()))


@contextlib.contextmanager
def exposing(exposition: Exposition) -> Iterator[str]:
    """Serve the series on loopback, and yield `host:port`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
