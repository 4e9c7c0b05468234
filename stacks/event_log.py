"""How long each resource took, from the engine's events (`--event-log`)."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def resource_seconds(lines: Iterable[str]) -> dict[str, float]:
    """Return seconds by resource name, for the resources that were created, updated or deleted.

    Each line is a JSON object: `resourcePreEvent` when work on a resource begins,
    `resOutputsEvent` when it is done, each with a timestamp in seconds.
    """
    begun: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for line in lines:
        event: dict[str, Any] = json.loads(line)
        timestamp = float(event.get("timestamp", 0))
        for kind in ("resourcePreEvent", "resOutputsEvent"):
            told: dict[str, Any] = event.get(kind) or {}
            metadata: dict[str, Any] | None = told.get("metadata")
            if metadata is None or metadata["op"] in ("same", "refresh", "read"):
                continue
            if metadata["type"] == "pulumi:pulumi:Stack":
                continue
            name = str(metadata["urn"]).rsplit("::", 1)[-1]
            if kind == "resourcePreEvent":
                begun[name] = timestamp
            elif name in begun:
                seconds[name] = timestamp - begun[name]
    return seconds


@dataclass
class EventLog:
    """Where the engine writes its events, and what was found in them once it has ended."""

    path: Path
    seconds: dict[str, float] = field(default_factory=dict[str, float])


@contextmanager
def event_log() -> Generator[EventLog]:
    """Give the engine a pipe to write its events to: they hold secrets, so they are kept nowhere.

    `seconds` is filled when the context ends.
    """
    with tempfile.TemporaryDirectory(prefix="events-") as directory:
        log = EventLog(Path(directory, "pipe"))
        os.mkfifo(log.path, 0o600)
        # Open at both ends from the start, so that neither side waits for the other.
        with os.fdopen(os.open(log.path, os.O_RDWR), "rb", buffering=0) as pipe:
            reader = threading.Thread(target=_read, args=(pipe.fileno(), log), daemon=True)
            reader.start()
            try:
                yield log
            finally:
                with log.path.open("wb") as end:
                    end.write(_END)
                reader.join()


_END = b"\x04\n"


def _read(descriptor: int, log: EventLog) -> None:
    with os.fdopen(os.dup(descriptor), "rb") as pipe:
        log.seconds.update(resource_seconds(line.decode() for line in iter(pipe.readline, _END)))
