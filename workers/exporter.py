"""The exporter: serves what Valkey knows of the queues and Postgres of the partitioning."""

from __future__ import annotations

import gc
from collections.abc import Callable

from prometheus_client import Counter

from workers import service
from workers.metrics import new_registry
from workers.partitioning_metrics import PartitioningCollector
from workers.queue_metrics import Discovery, QueueCollector
from workers.service import Stop
from workers.settings import ExporterSettings


def _nothing_missing() -> list[str]:
    # A server that is away is what the exporter is there to report.
    return []


def _names(settings: ExporterSettings, redis_url: str) -> Callable[[], list[str]]:
    if settings.queues:
        return lambda: settings.queues
    return Discovery(redis_url, settings.queue_prefix, settings.discovery_seconds).queues


def run(settings: ExporterSettings) -> None:
    """Serve until SIGTERM. Raises service.ServiceError."""
    registry = new_registry()
    failures = Counter(
        "exporter_scrape_errors",
        "Scrapes that found a server away or unwilling.",
        ["source"],
        registry=registry,
    )
    redis_url = settings.redis_url.get_secret_value()
    registry.register(
        QueueCollector(redis_url, settings.queue_prefix, _names(settings, redis_url), failures)
    )
    registry.register(PartitioningCollector(settings.database_url.get_secret_value(), failures))

    async def serve(stop: Stop) -> None:
        # What is there by now stays: looking through it for garbage again and again would hold one
        # scrape in a hundred up for some 30 ms.
        gc.collect()
        gc.freeze()
        await stop.requested.wait()

    service.run("exporter", settings, registry, _nothing_missing, serve)
