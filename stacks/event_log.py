"""How long each resource took, from the engine's event log (`--event-log`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def resource_seconds(path: Path) -> dict[str, float]:
    """Return seconds by resource name, for the resources that were created, updated or deleted.

    The log has one JSON object a line: `resourcePreEvent` when work on a resource begins,
    `resOutputsEvent` when it is done, each with a timestamp in seconds.
    """
    begun: dict[str, float] = {}
    seconds: dict[str, float] = {}
    if not path.exists():
        return seconds
    for line in path.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        timestamp = float(event.get("timestamp", 0))
        for kind in ("resourcePreEvent", "resOutputsEvent"):
            told: dict[str, Any] = event.get(kind) or {}
            metadata: dict[str, Any] | None = told.get("metadata")
            if metadata is None or metadata["op"] in ("same", "refresh", "read"):
                continue
            name = str(metadata["urn"]).rsplit("::", 1)[-1]
            if kind == "resourcePreEvent":
                begun[name] = timestamp
            elif name in begun:
                seconds[name] = timestamp - begun[name]
    return seconds
