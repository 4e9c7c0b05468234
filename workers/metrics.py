"""Metrics of the programs. Every series exists, at zero, from the start."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

OUTCOMES = ("trained", "kept_default", "skipped")

# A training takes some milliseconds; the tail is an actor with a very long history.
FSRS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# A calculation reads every review: from a tenth of a second to minutes.
CDC_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
# From a queue that is empty to one that is far behind.
WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)
ATTEMPTS_BUCKETS = (1, 2, 3, 5, 10)


def new_registry() -> CollectorRegistry:
    """Return a registry with the figures of this process (CPU, memory, files)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class JobMetrics:
    """What the queue did with the jobs of one worker; agrees with the queue's own states."""

    def __init__(self, registry: CollectorRegistry, queue: str) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(name, documentation, ["queue"], registry=registry).labels(queue)

        self.completed = counter("jobs_completed", "Jobs completed.")
        self.failed = counter(
            "jobs_failed", "Jobs failed for good: attempts used up, or not worth another."
        )
        self.retried = counter("jobs_retried", "Failed attempts that will be repeated.")
        self.stalled = counter("jobs_stalled", "Jobs taken over from a vanished worker.")
        self.returned = counter("jobs_returned", "Jobs handed back to the queue at shutdown.")
        self.wait = Histogram(
            "jobs_wait_seconds",
            "Time from when a job was due to when its first attempt began.",
            ["queue"],
            buckets=WAIT_BUCKETS,
            registry=registry,
        ).labels(queue)
        self.attempts = Histogram(
            "jobs_attempts",
            "Attempts of the jobs that completed or failed for good.",
            ["queue"],
            buckets=ATTEMPTS_BUCKETS,
            registry=registry,
        ).labels(queue)
        self.active = Gauge(
            "jobs_active", "Jobs this worker runs now.", ["queue"], registry=registry
        ).labels(queue)


class FsrsMetrics:
    """What the FSRS optimization did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._processed = Counter(
            "fsrs_optimization_jobs_processed",
            "FSRS optimization jobs processed, by what came out.",
            ["outcome"],
            registry=registry,
        )
        self.processed = {outcome: self._processed.labels(outcome) for outcome in OUTCOMES}
        self.duration = Histogram(
            "fsrs_optimization_job_duration_seconds",
            "Time to read, train, evaluate and write one actor.",
            buckets=FSRS_BUCKETS,
            registry=registry,
        )
        self.reviews = Counter(
            "fsrs_optimization_reviews_read",
            "Reviews read by FSRS optimization jobs.",
            registry=registry,
        )


class ComplexityMetrics:
    """What the complexity calculation did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = Histogram(
            "cdc_calculation_job_duration_seconds",
            "Time of one complexity calculation, from its first start until its scores are written:"
            " waiting for the jobs it made of its months is part of it.",
            buckets=CDC_BUCKETS,
            registry=registry,
        )
        self.part_duration = Histogram(
            "cdc_calculation_part_duration_seconds",
            "Time of one job that sums months up for a calculation.",
            buckets=CDC_BUCKETS,
            registry=registry,
        )
        self.reviews = Counter(
            "cdc_calculation_reviews_read",
            "Reviews read by calculations, and by jobs for them.",
            registry=registry,
        )
        self.nodes_written = Counter(
            "cdc_calculation_nodes_written",
            "Nodes whose score changed and was written.",
            registry=registry,
        )


class SchedulerMetrics:
    """What the scheduler did."""

    def __init__(self, registry: CollectorRegistry, queues: tuple[str, ...]) -> None:
        self._added = Counter(
            "scheduler_jobs_added", "Jobs added to a queue.", ["queue"], registry=registry
        )
        self.added = {queue: self._added.labels(queue) for queue in queues}
        self.errors = Counter("scheduler_errors", "Rounds that failed.", registry=registry)
        self.last_success = Gauge(
            "scheduler_last_success_timestamp_seconds",
            "When the last round succeeded; 0 before the first.",
            registry=registry,
        )
