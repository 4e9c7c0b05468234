"""The configuration files of Prometheus and Alertmanager, made from settings.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/ and
https://prometheus.io/docs/alerting/latest/configuration/ describe the formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alerts.inhibition import inhibit_rules

RULES = Path(__file__).resolve().parent / "rules"


@dataclass(frozen=True)
class ScrapeTarget:
    """One process that serves `/metrics`: the job it belongs to, and its `host:port`."""

    job: str
    address: str


@dataclass(frozen=True)
class PrometheusSettings:
    """What Prometheus scrapes, evaluates and notifies.

    `rule_files` are paths or globs, relative to the directory of the configuration;
    `alertmanagers` are `host:port`. Rules are evaluated as often as targets are scraped.
    """

    scrape_seconds: float
    targets: tuple[ScrapeTarget, ...]
    alertmanagers: tuple[str, ...] = ()
    rule_files: tuple[str, ...] = ()
    external_labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class AlertmanagerSettings:
    """Where alerts go, and how fast.

    The URLs are secrets (they carry a token with most services), so the configuration only names
    the files that hold them. `heartbeat_url_file` is for a dead man's switch, which raises the
    alarm when the Watchdog no longer reaches it; without one the Watchdog is visible in
    Alertmanager and sent nowhere. So is everything else without `webhook_url_file`.
    """

    webhook_url_file: Path | None
    heartbeat_url_file: Path | None = None
    group_wait_seconds: float = 10
    group_interval_seconds: float = 60
    repeat_interval_seconds: float = 4 * 3600
    heartbeat_interval_seconds: float = 60


def rule_files() -> list[Path]:
    """Return the rule files of the project, sorted by name."""
    return sorted(RULES.glob("*.yaml"))


def duration(seconds: float) -> str:
    """Return a duration as Prometheus writes it: `1h30m`, `5s`, `250ms`."""
    milliseconds = max(1, round(seconds * 1000))
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            text += f"{count}{unit}"
    return text


def prometheus_configuration(settings: PrometheusSettings) -> str:
    """Return the content of `prometheus.yml`."""
    interval = duration(settings.scrape_seconds)
    addresses: dict[str, list[str]] = {}
    for target in settings.targets:
        addresses.setdefault(target.job, []).append(target.address)
    document: dict[str, Any] = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": duration(min(settings.scrape_seconds, 10)),
            "evaluation_interval": interval,
            "external_labels": dict(settings.external_labels),
        },
        "rule_files": list(settings.rule_files),
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": list(settings.alertmanagers)}]}]
            if settings.alertmanagers
            else []
        },
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": sorted(addresses[job])}]}
            for job in sorted(addresses)
        ],
    }
    return _yaml(document)


def alertmanager_configuration(settings: AlertmanagerSettings) -> str:
    """Return the content of `alertmanager.yml`: routes, receivers, inhibition."""
    document: dict[str, Any] = {
        "route": {
            "receiver": "webhook",
            # One message a problem and queue, however many instances report it.
            "group_by": ["alertname", "queue"],
            "group_wait": duration(settings.group_wait_seconds),
            "group_interval": duration(settings.group_interval_seconds),
            "repeat_interval": duration(settings.repeat_interval_seconds),
            "routes": [
                {
                    "matchers": ['alertname="Watchdog"'],
                    "receiver": "heartbeat",
                    "group_wait": "0s",
                    "group_interval": duration(settings.heartbeat_interval_seconds),
                    "repeat_interval": duration(settings.heartbeat_interval_seconds),
                }
            ],
        },
        "receivers": [
            _receiver("webhook", settings.webhook_url_file, send_resolved=True),
            # A switch hears of the Watchdog again and again, never of its end.
            _receiver("heartbeat", settings.heartbeat_url_file, send_resolved=False),
        ],
        "inhibit_rules": inhibit_rules(),
    }
    return _yaml(document)


def _receiver(name: str, url_file: Path | None, *, send_resolved: bool) -> dict[str, Any]:
    if url_file is None:
        return {"name": name}
    return {
        "name": name,
        "webhook_configs": [{"url_file": str(url_file), "send_resolved": send_resolved}],
    }


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
