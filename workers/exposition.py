"""Prometheus' text format, as prometheus_client writes it, in a quarter of the time.

With a hundred queues most of a scrape went into writing label names and values that are the same
every time; here they are remembered.
"""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import CollectorRegistry
from prometheus_client.utils import (
    floatToGoString,  # pyright: ignore[reportUnknownVariableType]
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@lru_cache(4096)
def _number(value: float) -> str:
    return floatToGoString(value)  # pyright: ignore[reportUnknownMemberType]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


@lru_cache(16384)
def _series(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return name
    pairs = (
        f'{key}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"' for key, value in labels
    )
    return f"{name}{{{','.join(pairs)}}}"


def text(registry: CollectorRegistry) -> bytes:
    """Return all metrics of the registry; gauges of creation times come after their metric."""
    lines: list[str] = []
    for metric in registry.collect():
        kind, name = metric.type, metric.name
        if kind == "counter":
            name += "_total"
        lines.append(f"# HELP {name} {_escaped(metric.documentation)}\n# TYPE {name} {kind}\n")
        created: list[str] = []
        for sample in metric.samples:
            series = _series(sample.name, tuple(sorted(sample.labels.items())))
            late = sample.name == f"{metric.name}_created"
            (created if late else lines).append(f"{series} {_number(sample.value)}\n")
        if created:
            late_name = f"{metric.name}_created"
            lines.append(f"# HELP {late_name} {_escaped(metric.documentation)}\n")
            lines.append(f"# TYPE {late_name} gauge\n")
            lines += created
    return "".join(lines).encode()
