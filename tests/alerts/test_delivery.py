"""From a metric to the webhook: real servers, the real rules with time running faster."""

from __future__ import annotations

import time

import pytest

from alerts.configuration import ScrapeTarget
from tests.alerts.conftest import MonitoringFactory, MonitoringStack
from tests.alerts.monitoring_servers import Exposition, exposing, wait_until

pytestmark = pytest.mark.slow

FSRS = 'queue="fsrs-optimization"'
SIZE = f"bullmq_queue_size{{{FSRS}}}"
COMPLETED = f"jobs_completed_total{{{FSRS}}}"
FAILED = f"jobs_failed_total{{{FSRS}}}"
WORKERS = f"bullmq_workers{{{FSRS}}}"
WAITING = f'bullmq_jobs{{{FSRS},state="waiting"}}'
OLDEST = f"bullmq_oldest_waiting_job_age_seconds{{{FSRS}}}"


def healthy() -> Exposition:
    return Exposition(
        {
            **dict.fromkeys((SIZE, COMPLETED, FAILED, WAITING, OLDEST), 0),
            **dict.fromkeys((WORKERS, "valkey_up", "postgres_up"), 1),
            'partitioning_months_ahead{table="review_logs"}': 3,
            "scheduler_last_success_timestamp_seconds": time.time(),
        }
    )


def add_until(
    exposition: Exposition, steps: dict[str, float], stack: MonitoringStack, alert: str
) -> None:
    """Raise the series by their steps ten times a second until the webhook hears of the alert."""

    def step() -> bool:
        for series, amount in steps.items():
            exposition.values[series] += amount
        return stack.received_statuses(alert) == ["firing"]

    wait_until(f"the webhook gets {alert}", step, 60)


def test_growth_and_failures_reach_the_webhook_and_so_do_their_ends(
    monitoring: MonitoringFactory,
) -> None:
    series = healthy()
    with exposing(series) as address:
        stack = monitoring((ScrapeTarget("fsrs-optimization", address),))
        wait_until("the watchdog fires", lambda: "Watchdog" in stack.firing())

        add_until(series, {SIZE: 20, COMPLETED: 9, FAILED: 1}, stack, "JobFailureRateHigh")
        add_until(series, {SIZE: 20, COMPLETED: 10}, stack, "QueueGrowing")
        (growth,) = [a for a in stack.received() if a["labels"]["alertname"] == "QueueGrowing"]
        assert growth["labels"] == {
            "alertname": "QueueGrowing",
            "queue": "fsrs-optimization",
            "severity": "warning",
            "stack": "test",
        }
        assert growth["annotations"]["runbook_url"].endswith("queues.md#queuegrowing")

        series.values[SIZE] = 0
        for alert in ("QueueGrowing", "JobFailureRateHigh"):
            wait_until(
                f"the webhook hears of the end of {alert}",
                lambda alert=alert: stack.received_statuses(alert) == ["firing", "resolved"],
            )
        assert stack.firing() == {"Watchdog"}
        assert stack.state_in_alertmanager("Watchdog") == "active"
        assert stack.received_statuses("Watchdog") == []


def test_the_symptoms_of_missing_workers_are_held_back(monitoring: MonitoringFactory) -> None:
    series = healthy()
    with exposing(series) as address:
        stack = monitoring((ScrapeTarget("exporter", address),))
        wait_until("the watchdog fires", lambda: "Watchdog" in stack.firing())
        series.values.update({WORKERS: 0, WAITING: 5, SIZE: 5})
        wait_until(
            "the webhook hears of the workers",
            lambda: stack.received_statuses("WorkersMissing") == ["firing"],
        )
        series.values[OLDEST] = 2000
        wait_until(
            "Alertmanager holds the symptom back",
            lambda: stack.state_in_alertmanager("QueueStuck") == "suppressed",
        )
        # Several times what a group waits before it is sent.
        time.sleep(2)
        assert stack.received_statuses("QueueStuck") == []
