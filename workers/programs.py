"""The two queue workers: which work, with which settings, counted how."""

from __future__ import annotations

from typing import Any

from workers import jobs, runtime
from workers.complexity_definition import Definition
from workers.metrics import ComplexityMetrics, FsrsMetrics, new_registry
from workers.settings import (
    COMPLEXITY_QUEUE,
    FSRS_QUEUE,
    ComplexitySettings,
    FsrsOptimizationSettings,
)


def fsrs_optimization(settings: FsrsOptimizationSettings) -> None:
    """Run the worker of the queue fsrs-optimization until SIGTERM."""
    registry = new_registry()
    metrics = FsrsMetrics(registry)

    def arguments(job: jobs.FsrsOptimizationJob) -> dict[str, Any]:
        return {"actor_id": job.actorId, "min_reviews": settings.fsrs_min_reviews}

    def count(result: dict[str, Any]) -> None:
        metrics.processed[result["outcome"]].inc()
        metrics.reviews.inc(result["reviews"])

    task = runtime.Task(
        queue=FSRS_QUEUE,
        payload=jobs.FsrsOptimizationJob,
        function="workers.fsrs_optimization:optimize_actor",
        arguments=arguments,
        count=count,
        duration=metrics.duration,
        preload=["workers.pool", "workers.fsrs_optimization"],
    )
    runtime.run(task, settings, registry)


def complexity(settings: ComplexitySettings) -> None:
    """Run the worker of the queue complexity until SIGTERM."""
    registry = new_registry()
    metrics = ComplexityMetrics(registry)
    definition = Definition(
        weight_grade=settings.cdc_weight_grade,
        weight_stability=settings.cdc_weight_stability,
        weight_retrievability=settings.cdc_weight_retrievability,
        decay_per_day=settings.cdc_decay_per_day,
        propagation=settings.cdc_propagation,
    )

    replica = settings.database_replica_url

    def arguments(job: jobs.ComplexityJob) -> dict[str, Any]:
        return {
            "definition": definition,
            "months": job.months,
            "handed_out_at": job.handedOutAt,
            "rows_per_job": settings.cdc_rows_per_job,
            "connections": settings.cdc_connections,
            "replica_url": replica.get_secret_value() if replica else None,
        }

    def count(result: dict[str, Any]) -> None:
        metrics.reviews.inc(result["read"])
        if "months" in result:
            metrics.part_duration.observe(result["seconds"])
        else:
            metrics.duration.observe(result["seconds"])
            metrics.nodes_written.inc(result["written"])

    task = runtime.Task(
        queue=COMPLEXITY_QUEUE,
        payload=jobs.ComplexityJob,
        function="workers.complexity_calculation:work",
        arguments=arguments,
        count=count,
        duration=None,
        preload=["workers.pool"],
    )
    runtime.run(task, settings, registry)
