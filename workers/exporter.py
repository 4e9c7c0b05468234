"""The exporter: serves what Valkey knows of the queues and Postgres of the partitioning."""

from __future__ import annotations

from prometheus_client import Counter

from workers import service
from workers.metrics import new_registry
from workers.partitioning_metrics import PartitioningCollector
from workers.queue_metrics import QueueCollector
from workers.service import Stop
from workers.settings import ExporterSettings


def _nothing_missing() -> list[str]:
    # A server that is away is what the exporter is there to report.
    return []


def run(settings: ExporterSettings) -> None:
    """Serve until SIGTERM. Raises service.ServiceError."""
    registry = new_registry()
    failures = Counter(
        "exporter_scrape_errors",
        "Scrapes that found a server away or unwilling.",
        ["source"],
        registry=registry,
    )
    queues = QueueCollector(
        settings.redis_url.get_secret_value(), settings.queue_prefix, settings.queues, failures
    )
    registry.register(queues)
    registry.register(PartitioningCollector(settings.database_url.get_secret_value(), failures))

    async def serve(stop: Stop) -> None:
        await stop.requested.wait()

    service.run("exporter", settings, registry, _nothing_missing, serve)
