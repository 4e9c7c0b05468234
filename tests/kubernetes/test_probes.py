from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes.environment import Object, UnsupportedError
from tests.kubernetes.probes import Target, Watch, check_supported, passes


@pytest.fixture
def answers() -> Iterator[tuple[Target, dict[str, int]]]:
    """A server on loopback that answers each path with the status that is set for it."""
    statuses: dict[str, int] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.get(self.path, 404))
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Target("127.0.0.1", {"metrics": server.server_port}, lambda line, _: len(line)), statuses
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "good"), [(200, True), (204, True), (302, True), (404, False), (503, False)]
)
def test_a_get_passes_by_its_status(
    answers: tuple[Target, dict[str, int]], status: int, good: bool
) -> None:
    target, statuses = answers
    statuses["/healthz"] = status
    probe = {"httpGet": {"path": "/healthz", "port": "metrics"}}
    assert passes(probe, target) == (good, f"statuscode: {status} ")


def test_a_connection_or_a_command_may_be_the_probe(
    answers: tuple[Target, dict[str, int]],
) -> None:
    target, _ = answers
    assert passes({"tcpSocket": {"port": "metrics"}}, target)[0]
    assert not passes({"tcpSocket": {"port": 1}}, target)[0]
    assert passes({"exec": {"command": []}}, target)[0]
    assert passes({"exec": {"command": ["a"]}}, target) == (False, "exit code 1")
    with pytest.raises(UnsupportedError, match="grpc"):
        check_supported({"grpc": {"port": 1}})


def test_verdicts_need_their_number_in_a_row(answers: tuple[Target, dict[str, int]]) -> None:
    target, statuses = answers
    statuses["/"] = 200
    probe: Object = {
        "httpGet": {"path": "/", "port": "metrics"},
        "failureThreshold": 3,
        "successThreshold": 2,
    }
    turns: list[Any] = []
    watch = Watch(probe, target, lambda good, _: turns.append((good, time.monotonic())), 0.1)

    def turned(count: int) -> None:
        deadline = time.monotonic() + 5
        while len(turns) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(turns) == count

    turned(1)
    statuses["/"] = 500
    changed = time.monotonic()
    turned(2)
    assert [good for good, _ in turns] == [True, False]
    assert turns[1][1] - changed >= 0.2
    watch.stop()
