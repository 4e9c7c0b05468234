"""The configuration of Prometheus and Alertmanager, judged by promtool and amtool."""

from __future__ import annotations

import subprocess
from pathlib import Path

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
from alerts.render import write
from tests.conftest import Tools

SECRET = "https://hooks.example.org/services/T0/B0/verysecret"
PROMETHEUS = PrometheusSettings(
    scrape_seconds=5,
    targets=(
        ScrapeTarget(job="exporter", address="127.0.0.1:9204"),
        ScrapeTarget(job="fsrs-optimization", address="127.0.0.1:9202"),
        ScrapeTarget(job="fsrs-optimization", address="127.0.0.1:9201"),
    ),
    alertmanagers=("127.0.0.1:9093",),
    rule_files=("*.rules.yaml",),
    external_labels={"stack": "local"},
)


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    url_file = tmp_path / "webhook.url"
    url_file.write_text(SECRET)
    write(tmp_path, PROMETHEUS, AlertmanagerSettings(webhook_url_file=url_file))
    return tmp_path


def test_promtool_accepts_the_configuration_with_all_rules(rendered: Path, tools: Tools) -> None:
    command = [tools["promtool"], "check", "config", str(rendered / "prometheus.yml")]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert f"{len(rule_files())} rule files found" in completed.stdout


def test_amtool_accepts_the_configuration(rendered: Path, tools: Tools) -> None:
    command = [tools["amtool"], "check-config", str(rendered / "alertmanager.yml")]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=Watchdog"], "heartbeat"),
        (["alertname=QueueGrowing", "queue=complexity", "severity=warning"], "webhook"),
        (["alertname=SomethingNew"], "webhook"),
    ],
)
def test_alerts_go_to_the_webhook_and_the_watchdog_to_the_heartbeat(
    labels: list[str], receiver: str, rendered: Path, tools: Tools
) -> None:
    configuration = f"--config.file={rendered / 'alertmanager.yml'}"
    command = [tools["amtool"], "config", "routes", "test", configuration, *labels]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.stdout.split() == [receiver], completed.stderr


def test_the_url_of_the_webhook_is_not_in_the_configuration(rendered: Path) -> None:
    text = (rendered / "alertmanager.yml").read_text()
    assert "verysecret" not in text
    (webhook, _) = yaml.safe_load(text)["receivers"]
    assert webhook["webhook_configs"] == [
        {"url_file": str(rendered / "webhook.url"), "send_resolved": True}
    ]


def test_the_watchdog_is_sent_nowhere_without_a_switch_and_again_and_again_with_one() -> None:
    silent = yaml.safe_load(alertmanager_configuration(AlertmanagerSettings(Path("/w"))))
    assert silent["receivers"][1] == {"name": "heartbeat"}
    switch = AlertmanagerSettings(Path("/w"), heartbeat_url_file=Path("/h"))
    document = yaml.safe_load(alertmanager_configuration(switch))
    assert document["receivers"][1]["webhook_configs"] == [
        {"url_file": "/h", "send_resolved": False}
    ]
    (route,) = document["route"]["routes"]
    assert (route["group_interval"], route["repeat_interval"]) == ("1m", "1m")


def test_alerts_are_grouped_by_name_and_queue() -> None:
    document = yaml.safe_load(alertmanager_configuration(AlertmanagerSettings(Path("/w"))))
    assert document["route"]["group_by"] == ["alertname", "queue"]


def test_addresses_of_one_job_are_scraped_under_its_name() -> None:
    document = yaml.safe_load(prometheus_configuration(PROMETHEUS))
    assert document["scrape_configs"] == [
        {"job_name": "exporter", "static_configs": [{"targets": ["127.0.0.1:9204"]}]},
        {
            "job_name": "fsrs-optimization",
            "static_configs": [{"targets": ["127.0.0.1:9201", "127.0.0.1:9202"]}],
        },
    ]


@pytest.mark.parametrize(("scrape", "timeout"), [(0.2, "200ms"), (5, "5s"), (60, "10s")])
def test_a_scrape_is_given_up_before_the_next_one(scrape: float, timeout: str) -> None:
    document = yaml.safe_load(
        prometheus_configuration(PrometheusSettings(scrape_seconds=scrape, targets=()))
    )
    assert document["global"]["scrape_timeout"] == timeout


def test_the_same_settings_give_the_same_text() -> None:
    assert prometheus_configuration(PROMETHEUS) == prometheus_configuration(
        PrometheusSettings(
            scrape_seconds=5,
            targets=PROMETHEUS.targets[::-1],
            alertmanagers=("127.0.0.1:9093",),
            rule_files=("*.rules.yaml",),
            external_labels={"stack": "local"},
        )
    )
