"""The rules, their unit tests and their runbooks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.check import test_files as unit_test_files
from alerts.configuration import rule_files
from alerts.inhibition import INHIBITIONS
from alerts.rule_file import AlertRule, alert_rules, read_rules
from tests.conftest import Tools

ROOT = Path(__file__).resolve().parent.parent.parent
ALERTS = [alert for path in rule_files() for alert in alert_rules(path)]
REQUIRED = {
    "QueueGrowing",
    "JobFailureRateHigh",
    "Watchdog",
    "TargetDown",
    "WorkersMissing",
    "QueueStuck",
    "ValkeyDown",
    "PostgresDown",
    "PartitionMissing",
}

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def run(*command: str) -> str:
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def unit_tests(path: Path) -> list[dict[str, Any]]:
    return [
        case
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]


def test_promtool_finds_nothing_wrong_with_the_rules(tools: Tools) -> None:
    output = run(tools["promtool"], "check", "rules", "--lint=all", *map(str, rule_files()))
    assert output.count("SUCCESS") == len(rule_files())


@pytest.mark.parametrize("path", unit_test_files(), ids=lambda path: path.name)
def test_the_unit_tests_of_the_rules_pass(path: Path, tools: Tools) -> None:
    assert "SUCCESS" in run(tools["promtool"], "test", "rules", str(path))


def test_every_failure_the_platform_can_have_has_an_alert() -> None:
    assert {alert.name for alert in ALERTS} >= REQUIRED


def test_no_two_alerts_or_groups_have_the_same_name() -> None:
    names = [alert.name for alert in ALERTS]
    groups = [group["name"] for path in rule_files() for group in read_rules(path)["groups"]]
    assert len(set(names)) == len(names)
    assert len(set(groups)) == len(groups)


@each_alert
def test_an_alert_says_what_happened_and_how_bad_it_is(alert: AlertRule) -> None:
    assert alert.labels["severity"] in {"none", "warning", "critical"}
    assert alert.annotations["summary"].endswith(".")
    assert alert.annotations["description"].strip()


@each_alert
def test_an_alert_has_a_section_in_a_runbook(alert: AlertRule) -> None:
    file, _, anchor = alert.annotations["runbook_url"].partition("#")
    sections = re.split(r"^## ", (ROOT / file).read_text(), flags=re.MULTILINE)[1:]
    section = {text.split("\n", 1)[0]: text for text in sections}[alert.name]
    assert anchor == alert.name.lower()
    assert "**Meaning.**" in section


@each_alert
def test_an_alert_has_a_unit_test_that_fires_and_one_that_does_not(alert: AlertRule) -> None:
    cases = [
        case
        for path in unit_test_files()
        for case in unit_tests(path)
        if case["alertname"] == alert.name
    ]
    assert any(case.get("exp_alerts") for case in cases)
    # The watchdog has no state in which it does not fire.
    assert alert.name == "Watchdog" or any(not case.get("exp_alerts") for case in cases)


@each_alert
def test_nothing_fires_at_once_but_the_watchdog(alert: AlertRule) -> None:
    rules = [r for g in read_rules(alert.file)["groups"] for r in g["rules"]]
    (rule,) = (rule for rule in rules if rule.get("alert") == alert.name)
    assert ("for" in rule) == (alert.name != "Watchdog")


def test_runbooks_have_no_section_without_an_alert() -> None:
    names = {alert.name for alert in ALERTS}
    for path in (ROOT / "alerts" / "runbooks").glob("*.md"):
        headings = re.findall(r"^## (.+)$", path.read_text(), flags=re.MULTILINE)
        assert set(headings) <= names, path.name


def test_inhibition_is_between_alerts_there_are() -> None:
    names = {alert.name for alert in ALERTS}
    for inhibition in INHIBITIONS:
        assert {inhibition.cause, *inhibition.symptoms} <= names
        assert inhibition.cause not in inhibition.symptoms
