"""The dashboard that only stacks on AWS have."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from alerts.rule_file import alert_rules
from dashboards.catalogue import aws_dashboards, dashboards, to_json
from dashboards.queries import queries
from stacks.kubernetes.cloudwatch import metric_names
from tests.conftest import ROOT, Tools
from tests.dashboards import promtool
from tests.dashboards.test_dashboards import call

(DASHBOARD,) = (json.loads(to_json(each)) for each in aws_dashboards())
PANELS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
EXPRESSIONS = [expression for each in aws_dashboards() for _, expression in queries(each)]
RULES = list(alert_rules(ROOT / "alerts" / "rules" / "aws.yaml"))


def metrics(expression: str) -> set[str]:
    return set(re.findall(r"\baws_\w+", expression))


def test_it_is_marked_and_not_among_those_of_every_stack() -> None:
    assert "aws" in DASHBOARD["tags"]
    assert DASHBOARD["uid"] not in {each.uid for each in dashboards()}


def test_panels_say_what_they_show_and_lie_beside_each_other() -> None:
    assert len({each["title"] for each in PANELS}) == len(PANELS)
    for each in PANELS:
        assert each["description"].endswith(".")
        assert each["fieldConfig"]["defaults"]["unit"]

    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }

    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not cells(one) & cells(other)


def test_what_is_shown_and_what_raises_an_alert_is_asked_of_cloudwatch() -> None:
    asked = set(metric_names())
    shown = {name for expression in EXPRESSIONS for name in metrics(expression)}
    alarming = {name for rule in RULES for name in metrics(rule.expression)}
    assert alarming <= asked
    # Nothing is paid for and not looked at.
    assert shown == asked
    assert len(alarming) == 9


def test_every_alert_of_aws_is_named_where_its_figure_is_shown() -> None:
    descriptions = " ".join(each["description"] for each in PANELS)
    for rule in RULES:
        if rule.name != "CloudWatchMetricsMissing":
            assert rule.name in descriptions


def test_promtool_can_parse_every_query(tools: Tools, tmp_path: Path) -> None:
    promtool.check(tools["promtool"], EXPRESSIONS, tmp_path)


def test_it_is_rendered_on_request(tmp_path: Path) -> None:
    assert call("render", "--aws", "--output", str(tmp_path)).returncode == 0
    assert sorted(path.stem for path in tmp_path.iterdir()) == [
        "learning-platform",
        "learning-platform-aws",
    ]
