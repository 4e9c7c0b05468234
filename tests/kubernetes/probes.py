"""Probes: what a node asks of a container, and what follows from the answers."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.environment import Object, UnsupportedError

Run = Callable[[Sequence[str], float], int]
"""Runs a command in the container for so many seconds at most; returns its exit code."""


@dataclass(frozen=True)
class Target:
    """What is probed: a container by the address of its pod, with its named ports."""

    address: str
    ports: dict[str, int]
    run: Run


def check_supported(probe: Object) -> None:
    """Raise UnsupportedError for a probe that we cannot make."""
    if not {"httpGet", "tcpSocket", "exec"} & set(probe):
        raise UnsupportedError(f"a probe by {', '.join(probe)}")


def passes(probe: Object, target: Target) -> tuple[bool, str]:
    """Make one probe; return whether it succeeded, and what came of it."""
    seconds = probe.get("timeoutSeconds", 1)
    try:
        if "httpGet" in probe:
            return _get(probe["httpGet"], target, seconds)
        if "tcpSocket" in probe:
            wanted = probe["tcpSocket"]
            address = wanted.get("host") or target.address, _port(wanted["port"], target)
            with socket.create_connection(address, seconds):
                return True, "connected"
        code = target.run(probe["exec"]["command"], seconds)
    except (OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return code == 0, f"exit code {code}"


def _get(wanted: Object, target: Target, seconds: float) -> tuple[bool, str]:
    address = wanted.get("host") or target.address
    port = _port(wanted["port"], target)
    connection: http.client.HTTPConnection
    if wanted.get("scheme", "HTTP") == "HTTPS":
        # As a kubelet does: a probe asks whether somebody is there, not who.
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(address, port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(address, port, timeout=seconds)
    headers = {each["name"]: each["value"] for each in wanted.get("httpHeaders", [])}
    with contextlib.closing(connection):
        connection.request("GET", wanted.get("path", "/"), headers=headers)
        answer = connection.getresponse()
        body = answer.read(1024).decode(errors="replace")
    return 200 <= answer.status < 400, f"statuscode: {answer.status} {body}"


def _port(port: Any, target: Target) -> int:
    return target.ports[port] if isinstance(port, str) else int(port)


class Watch:
    """Makes one kind of probe again and again, until stopped.

    `turned` is called whenever the verdict changes: with True after `successThreshold` successes in
    a row, with False and the last words after `failureThreshold` failures.
    """

    def __init__(
        self,
        probe: Object,
        target: Target,
        turned: Callable[[bool, str], None],
        period_at_most: float | None,
    ) -> None:
        self._probe = probe
        self._target = target
        self._turned = turned
        self._period = float(probe.get("periodSeconds", 10))
        if period_at_most is not None:
            self._period = min(self._period, period_at_most)
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        verdict: bool | None = None
        last, row = None, 0
        wanted = {
            True: self._probe.get("successThreshold", 1),
            False: self._probe.get("failureThreshold", 3),
        }
        if self._stopped.wait(self._probe.get("initialDelaySeconds", 0)):
            return
        while True:
            result, words = passes(self._probe, self._target)
            last, row = result, (row + 1 if result == last else 1)
            if self._stopped.is_set():
                return
            if row >= wanted[result] and result != verdict:
                verdict = result
                self._turned(result, words)
            if self._stopped.wait(self._period):
                return
