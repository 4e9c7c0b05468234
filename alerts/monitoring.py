"""Asks Prometheus and Alertmanager what they know of an alert."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Literal

SECONDS = 5.0

State = Literal["inactive", "pending", "firing"]


class MonitoringError(Exception):
    """Prometheus or Alertmanager does not answer as it should; the message says which and how."""


@dataclass(frozen=True)
class Monitoring:
    """The HTTP interfaces of one Prometheus and its Alertmanager."""

    prometheus_url: str
    alertmanager_url: str

    def has_rule(self, alert: str) -> bool:
        """Return whether Prometheus has loaded the alert."""
        data = self._prometheus("/api/v1/rules", {"type": "alert"})
        return any(rule["name"] == alert for group in data["groups"] for rule in group["rules"])

    def value(self, query: str) -> float | None:
        """Return the value of a query's first series, None if it has none."""
        result = self._prometheus("/api/v1/query", {"query": query})["result"]
        return float(result[0]["value"][1]) if result else None

    def state(self, alert: str, queue: str) -> State:
        """Return how far Prometheus is with the alert about the queue."""
        for active in self._prometheus("/api/v1/alerts", {})["alerts"]:
            labels = active["labels"]
            if labels["alertname"] == alert and labels.get("queue") == queue:
                return active["state"]
        return "inactive"

    def notified(self, alert: str, queue: str) -> Literal["active", "suppressed"] | None:
        """Return what Alertmanager does with the alert about the queue; None if it has it not."""
        matchers = [("filter", f'alertname="{alert}"'), ("filter", f'queue="{queue}"')]
        found = _get("Alertmanager", self.alertmanager_url, "/api/v2/alerts", matchers)
        states = {entry["status"]["state"] for entry in found}
        if not states:
            return None
        return "suppressed" if states == {"suppressed"} else "active"

    def _prometheus(self, path: str, parameters: dict[str, str]) -> Any:
        answer = _get("Prometheus", self.prometheus_url, path, list(parameters.items()))
        return answer["data"]


def _get(server: str, url: str, path: str, parameters: list[tuple[str, str]]) -> Any:
    address = f"{url.rstrip('/')}{path}?{urllib.parse.urlencode(parameters)}"
    try:
        # The scheme was checked with the settings.
        with urllib.request.urlopen(address, timeout=SECONDS) as response:  # noqa: S310
            return json.load(response)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise MonitoringError(
            f"{server} does not answer ({server.upper()}_URL): {reason}"
        ) from None
