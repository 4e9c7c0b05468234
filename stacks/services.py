"""The processes of ours that every platform runs."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from stacks.platform import Platform, ServiceSpec
from stacks.settings import WorkersSettings


def services(
    platform: Platform,
    settings: WorkersSettings,
    *,
    schema: Sequence[pulumi.Resource],
    loaded: Sequence[pulumi.Resource],
) -> dict[str, pulumi.Resource]:
    """Declare the workers, the scheduler and the exporter.

    The workers start after `schema`; the scheduler, which looks for work, after `loaded`.
    """
    common = {"QUEUE_PREFIX": settings.queue_prefix}
    workers = {**common, "DRAIN_SECONDS": str(settings.drain_seconds)}
    # The platform kills later than the worker gives up draining by itself.
    stop_seconds = settings.drain_seconds + 10
    specs = {
        "fsrs-optimization": (
            {**workers, "CONCURRENCY": str(settings.fsrs_concurrency)},
            schema,
        ),
        "complexity": (workers, schema),
        "exporter": (common, schema),
        "scheduler": ({**common, "COMPLEXITY_CRON": settings.complexity_cron}, loaded),
    }
    return {
        name: platform.service(
            name,
            ServiceSpec(
                command=("-m", "workers", name),
                packages=("workers", "connections"),
                environment=environment,
                stop_seconds=stop_seconds,
                reads_replica=name == "complexity",
            ),
            after,
        )
        for name, (environment, after) in specs.items()
    }
