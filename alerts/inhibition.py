"""Which alerts are held back while another one already tells the cause.

An inhibited alert still fires and shows in Alertmanager; it is only not sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Inhibition:
    """While `cause` fires, its `symptoms` with the same values of the labels `equal` are held back.

    `cause_labels` narrow the cause further (`job="exporter"`).
    """

    cause: str
    symptoms: tuple[str, ...]
    equal: tuple[str, ...] = ()
    cause_labels: tuple[str, ...] = ()


INHIBITIONS = (
    # Workers hold their jobs while there is no database, so that queues grow and age.
    Inhibition("PostgresDown", ("QueueGrowing", "QueueStuck", "SchedulerStalled")),
    # Without Valkey nobody sees, fills or empties a queue.
    Inhibition(
        "ValkeyDown",
        ("QueueGrowing", "QueueStuck", "WorkersMissing", "SchedulerStalled", "QueueMetricsMissing"),
    ),
    # A queue without workers grows and ages.
    Inhibition("WorkersMissing", ("QueueGrowing", "QueueStuck"), equal=("queue",)),
    # What the exporter no longer says is missing.
    Inhibition("TargetDown", ("QueueMetricsMissing",), cause_labels=('job="exporter"',)),
    # That one process of a queue does not answer says less than that the queue has no worker.
    Inhibition("WorkersMissing", ("TargetDown",), equal=("queue",)),
)


def inhibit_rules() -> list[dict[str, Any]]:
    """Return the `inhibit_rules` of Alertmanager's configuration."""
    return [
        {
            "source_matchers": [f'alertname="{inhibition.cause}"', *inhibition.cause_labels],
            "target_matchers": [f'alertname=~"{"|".join(inhibition.symptoms)}"'],
            **({"equal": list(inhibition.equal)} if inhibition.equal else {}),
        }
        for inhibition in INHIBITIONS
    ]
