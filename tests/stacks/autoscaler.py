"""KEDA and the autoscaler of Kubernetes, as far as a trigger on Prometheus goes, for tests.

https://keda.sh/docs/latest/scalers/prometheus/ and .../concepts/scaling-deployments/ (fallback);
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ (formula, tolerance,
stabilisation and policies). Everything comes from the ScaledObject; nothing is configured here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.alerts.monitoring_servers import ask_prometheus

SYNC_SECONDS = 15
TOLERANCE = 0.1


class NoAnswerError(Exception):
    """The trigger has no value; KEDA counts that as a failure."""


def ask(prometheus_url: str, trigger: Mapping[str, Any], time: float | None = None) -> float:
    """Ask a trigger's query as KEDA does, for now or a time.

    Raises NoAnswerError where nothing comes back and nothing is not nought.
    """
    metadata = trigger["metadata"]
    at = {"time": str(time)} if time else {}
    result = ask_prometheus(prometheus_url, metadata["query"], **at)
    if not result:
        if metadata["ignoreNullValues"] == "true":
            return 0.0
        raise NoAnswerError(f"no answer to {metadata['query']}")
    if len(result) > 1:
        raise AssertionError(f"{metadata['query']} answers with {len(result)} series, KEDA takes 1")
    value = float(result[0]["value"][1])
    if not math.isfinite(value):
        raise NoAnswerError(f"{metadata['query']} is {value}")
    return value


@dataclass
class Autoscaler:
    """The replicas of a Deployment while its trigger is polled every 15 seconds."""

    spec: Mapping[str, Any]
    replicas: int
    _failures: int = 0
    _wishes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    _changes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    def sync(self, now: float, value: float | None) -> int:
        """Take the trigger's value, None for no answer; return how many replicas there are then."""
        wish = self._wish(value)
        self._wishes.append((now, wish))
        wanted = self._limited(now, self._stable(now))
        wanted = min(self.spec["maxReplicaCount"], max(self.spec["minReplicaCount"], wanted))
        if wanted != self.replicas:
            self._changes.append((now, wanted - self.replicas))
            self.replicas = wanted
        return self.replicas

    def _wish(self, value: float | None) -> int:
        if value is None:
            self._failures += 1
            fallback = self.spec["fallback"]
            if self._failures < fallback["failureThreshold"]:
                # The autoscaler gets an error, and leaves everything as it is.
                return self.replicas
            if fallback["behavior"] == "currentReplicasIfHigher":
                return max(self.replicas, fallback["replicas"])
            return fallback["replicas"]
        self._failures = 0
        threshold = float(self.spec["triggers"][0]["metadata"]["threshold"])
        if abs(value / (threshold * self.replicas) - 1) <= TOLERANCE:
            return self.replicas
        return math.ceil(value / threshold)

    def _stable(self, now: float) -> int:
        behavior = self._behavior
        lowest = min(self._wishes_since(now, behavior["scaleUp"]["stabilizationWindowSeconds"]))
        highest = max(self._wishes_since(now, behavior["scaleDown"]["stabilizationWindowSeconds"]))
        return max(lowest, min(highest, self.replicas))

    def _wishes_since(self, now: float, window: float) -> list[int]:
        return [wish for time, wish in self._wishes if time >= now - window]

    def _limited(self, now: float, wanted: int) -> int:
        if wanted > self.replicas:
            limits = [self._up(now, each) for each in self._behavior["scaleUp"]["policies"]]
            return min(wanted, max(limits))
        if wanted < self.replicas:
            limits = [self._down(now, each) for each in self._behavior["scaleDown"]["policies"]]
            return max(wanted, min(limits))
        return wanted

    def _up(self, now: float, policy: Mapping[str, Any]) -> int:
        start = self.replicas - self._changed(now, policy["periodSeconds"], 1)
        if policy["type"] == "Pods":
            return start + policy["value"]
        return math.ceil(start * (1 + policy["value"] / 100))

    def _down(self, now: float, policy: Mapping[str, Any]) -> int:
        start = self.replicas + self._changed(now, policy["periodSeconds"], -1)
        if policy["type"] == "Pods":
            return start - policy["value"]
        return math.floor(start * (1 - policy["value"] / 100))

    def _changed(self, now: float, period: float, sign: int) -> int:
        return sum(
            sign * change
            for time, change in self._changes
            if time > now - period and sign * change > 0
        )

    @property
    def _behavior(self) -> Mapping[str, Any]:
        return self.spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
