"""The text format: byte for byte what prometheus_client writes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from workers import exposition


def test_it_is_what_the_library_writes() -> None:
    registry = CollectorRegistry()
    counter = Counter("things", "Things of\na \\ kind.", ["kind", "a"], registry=registry)
    counter.labels('quoted "kind"', "back\\slash\nand line").inc(2)
    counter.labels("plain", "ü").inc(1e300)
    for number, value in enumerate((0.1, -3, float("inf"), float("nan"), 12345678901234)):
        Gauge(f"level_{number}", "Level.", registry=registry).set(value)
    histogram = Histogram("time_seconds", "Time.", ["queue"], buckets=(0.1, 1), registry=registry)
    histogram.labels("a").observe(0.5)
    Histogram("bare_seconds", "Time.", registry=registry).observe(3)
    written = exposition.text(registry)
    assert written == generate_latest(registry)
    assert len(list(text_string_to_metric_families(written.decode()))) >= 8
