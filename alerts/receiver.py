"""A receiver of Alertmanager's webhook, for a stack that has nobody else to tell.

`POST` to any path takes a message, `GET /alerts` shows the last alerts, newest first, and
`GET /healthz` answers `ok`. Every alert is a line on stdout and, where a log is named, a JSON line
of that file, which is rotated by size so that it never takes more than twice that.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections import deque
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from alerts.settings import ReceiverSettings

KEPT = 200
"""Alerts shown by `GET /alerts`."""
MESSAGE_BYTES = 4_000_000
REQUEST_SECONDS = 10


class ReceiverError(Exception):
    """The receiver cannot start; the message says why."""


class Alert(BaseModel):
    """One alert of a message; https://prometheus.io/docs/alerting/latest/configuration/#webhook_config."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    startsAt: datetime  # noqa: N815 -- Alertmanager's names
    endsAt: datetime | None = None  # noqa: N815
    fingerprint: str = ""


class Message(BaseModel):
    """What Alertmanager posts: the alerts of one group."""

    version: Literal["4"]
    receiver: str
    alerts: list[Alert]


class Journal:
    """The alerts received: the last ones in memory, all of them in the file while it lasts."""

    def __init__(self, path: Path | None, log_bytes: int) -> None:
        self._lock = threading.Lock()
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._file: RotatingFileHandler | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for file in (path.with_name(f"{path.name}.1"), path):
                self._remember(file)
            _end_last_line(path)
            self._file = RotatingFileHandler(path, maxBytes=log_bytes, backupCount=1)
        except OSError as error:
            raise ReceiverError(f"RECEIVER_LOG: {path} cannot be used: {error}") from None

    def add(self, message: Message) -> None:
        """Write down the alerts of a message."""
        received = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            for alert in message.alerts:
                entry = {
                    "receivedAt": received,
                    "receiver": message.receiver,
                    **alert.model_dump(mode="json"),
                }
                self._last.append(entry)
                line = json.dumps(entry, ensure_ascii=False)
                if self._file is not None:
                    self._file.emit(logging.makeLogRecord({"msg": line}))
                print(_summary(entry), flush=True)

    def last(self) -> list[dict[str, Any]]:
        """Return the last alerts, newest first."""
        with self._lock:
            return list(reversed(self._last))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _remember(self, file: Path) -> None:
        if not file.exists():
            return
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:  # the last line of a process that was killed
                    continue
                if isinstance(entry, dict):
                    self._last.append(entry)  # pyright: ignore[reportUnknownArgumentType]


def _end_last_line(file: Path) -> None:
    """Let the next line begin where a line does, after a process that was killed writing one."""
    content = file.read_bytes() if file.exists() else b""
    if content and not content.endswith(b"\n"):
        with file.open("ab") as end:
            end.write(b"\n")


def _summary(entry: dict[str, Any]) -> str:
    labels: dict[str, str] = dict(entry["labels"])
    name = labels.pop("alertname", "alert without a name")
    described = ", ".join(f"{label}={value}" for label, value in sorted(labels.items()))
    summary = entry["annotations"].get("summary", "")
    return f"{entry['receivedAt']} {entry['status']} {name} ({described}) {summary}".rstrip()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = REQUEST_SECONDS
    server_version = "alert-receiver"
    sys_version = ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/healthz":
            self._answer(HTTPStatus.OK, "ok")
        elif path == "/alerts":
            self._answer(HTTPStatus.OK, self.server.journal.last())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "there are /alerts and /healthz")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._answer(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        elif int(length) > MESSAGE_BYTES:
            self._answer(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MESSAGE_BYTES} bytes are taken"
            )
        else:
            self._take(self.rfile.read(int(length)))

    def _take(self, body: bytes) -> None:
        try:
            message = Message.model_validate_json(body)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            location = ".".join(map(str, problem["loc"])) or "body"
            self._answer(
                HTTPStatus.BAD_REQUEST,
                f"no message of Alertmanager: {location}: {problem['msg']}",
            )
            return
        self.server.journal.add(message)
        self._answer(HTTPStatus.OK, "ok")

    def _answer(self, status: HTTPStatus, content: object) -> None:
        is_text = isinstance(content, str)
        body = (f"{content}\n" if is_text else json.dumps(content, indent=2)).encode()
        self.send_response(status)
        kind = "text/plain; charset=utf-8" if is_text else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # A body that was not read would be taken for the next request.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: alerts are worth a line, readiness probes are not."""


class Receiver(ThreadingHTTPServer):
    """The HTTP server with its journal."""

    daemon_threads = True
    # Two seconds may pass between the end of one process and the start of the next.
    allow_reuse_address = True

    def __init__(self, settings: ReceiverSettings) -> None:
        self.journal = Journal(settings.log, settings.log_bytes)
        try:
            super().__init__((settings.host, settings.port), _Handler)
        except OSError as error:
            self.journal.close()
            raise ReceiverError(
                f"cannot listen on RECEIVER_HOST {settings.host}, RECEIVER_PORT {settings.port}: "
                f"{error.strerror or error}"
            ) from None

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/"


def run(settings: ReceiverSettings) -> None:
    """Receive alerts until SIGTERM or Ctrl-C. Raises ReceiverError."""
    receiver = Receiver(settings)

    def stop(_number: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the loop this handler interrupts, so it needs a thread of its own.
        threading.Thread(target=receiver.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    print(f"receiving alerts at {receiver.url}", flush=True)
    try:
        receiver.serve_forever(poll_interval=0.2)
    finally:
        receiver.server_close()
        receiver.journal.close()
    print("stopped", flush=True)
