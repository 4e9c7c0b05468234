"""A real monitoring stack with the project's rules, a hundred times faster than they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.configuration import (
    AlertmanagerSettings,
    PrometheusSettings,
    ScrapeTarget,
    alertmanager_configuration,
    prometheus_configuration,
    rule_files,
)
from alerts.rule_file import read_rules, scaled
from tests.alerts.monitoring_servers import (
    ask_prometheus,
    get_json,
    running_alertmanager,
    running_prometheus,
    running_receiver,
)
from tests.conftest import Tools

FACTOR = 0.01


@dataclass(frozen=True)
class MonitoringStack:
    """The URLs of the three servers."""

    prometheus_url: str
    alertmanager_url: str
    receiver_url: str

    def received(self) -> list[dict[str, Any]]:
        """What the webhook got, oldest first."""
        return get_json(f"{self.receiver_url}/alerts")[::-1]

    def received_statuses(self, alert: str) -> list[str]:
        return [
            entry["status"] for entry in self.received() if entry["labels"]["alertname"] == alert
        ]

    def firing(self) -> set[str]:
        """The names of what fires in Prometheus."""
        alerts = get_json(f"{self.prometheus_url}/api/v1/alerts")["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def has(self, query: str) -> bool:
        """Whether a query has a value in Prometheus."""
        return bool(ask_prometheus(self.prometheus_url, query))

    def state_in_alertmanager(self, alert: str) -> str | None:
        for entry in get_json(f"{self.alertmanager_url}/api/v2/alerts"):
            if entry["labels"]["alertname"] == alert:
                return entry["status"]["state"]
        return None


MonitoringFactory = Callable[[tuple[ScrapeTarget, ...]], MonitoringStack]


@pytest.fixture
def monitoring(tools: Tools, tmp_path: Path) -> Iterator[MonitoringFactory]:
    """Starts the stack that scrapes the given targets."""
    with contextlib.ExitStack() as stack:

        def start(targets: tuple[ScrapeTarget, ...]) -> MonitoringStack:
            receiver_url = stack.enter_context(running_receiver(tmp_path / "receiver"))
            url_file = tmp_path / "webhook.url"
            url_file.write_text(f"{receiver_url}/")
            alertmanager_url = stack.enter_context(
                running_alertmanager(
                    tools["alertmanager"],
                    tmp_path / "alertmanager",
                    alertmanager_configuration(
                        AlertmanagerSettings(
                            webhook_url_file=url_file,
                            group_wait_seconds=0.3,
                            group_interval_seconds=0.5,
                        )
                    ),
                )
            )
            directory = tmp_path / "prometheus"
            directory.mkdir()
            for path in rule_files():
                fast = scaled(read_rules(path), FACTOR)
                (directory / f"{path.stem}.rules.yaml").write_text(yaml.safe_dump(fast))
            prometheus_url = stack.enter_context(
                running_prometheus(
                    tools["prometheus"],
                    directory,
                    prometheus_configuration(
                        PrometheusSettings(
                            scrape_seconds=0.5,
                            targets=targets,
                            alertmanagers=(alertmanager_url.removeprefix("http://"),),
                            rule_files=("*.rules.yaml",),
                            external_labels={"stack": "test"},
                        )
                    ),
                )
            )
            return MonitoringStack(prometheus_url, alertmanager_url, receiver_url)

        yield start
