"""Rule files as data, and scaled in time."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alerts.configuration import duration, rule_files
from alerts.rule_file import read_rules, scaled, scaled_expression, seconds
from tests.conftest import Tools


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(x[10m])", "rate(x[6s])"),
        ("rate(x[1h30m] offset 10m)", "rate(x[54s] offset 6s)"),
        ("x offset -5m", "x offset -3s"),
        ("max_over_time(rate(x[5m])[1h:10m])", "max_over_time(rate(x[3s])[36s:6s])"),
        ("max_over_time(x[1h:])", "max_over_time(x[36s:])"),
        ("rate(x{a=\"[10m]\", b='offset 5m'}[10m])", "rate(x{a=\"[10m]\", b='offset 5m'}[6s])"),
        ("x:rate10m * 600 >= 20", "x:rate10m * 600 >= 20"),
        ("rate(x[1s])", "rate(x[10ms])"),
    ],
)
def test_ranges_and_offsets_are_scaled_and_nothing_else(expression: str, expected: str) -> None:
    assert scaled_expression(expression, 0.01) == expected


def test_the_rules_stay_as_they_are_where_the_factor_is_one() -> None:
    for path in rule_files():
        assert scaled(read_rules(path), 1) == read_rules(path)


def test_scaling_leaves_its_argument_alone() -> None:
    rules = read_rules(rule_files()[0])
    before = copy.deepcopy(rules)
    scaled(rules, 0.5)
    assert rules == before


def test_for_and_interval_are_scaled() -> None:
    rules = {
        "groups": [
            {
                "name": "g",
                "interval": "1m",
                "rules": [{"alert": "A", "expr": "x[1m]", "for": "5m", "keep_firing_for": "10m"}],
            }
        ]
    }
    (group,) = scaled(rules, 0.1)["groups"]
    assert group["interval"] == "6s"
    assert group["rules"] == [
        {"alert": "A", "expr": "x[6s]", "for": "30s", "keep_firing_for": "1m"}
    ]


def test_scaled_rules_are_valid_rules(tools: Tools, tmp_path: Path) -> None:
    paths: list[str] = []
    for path in rule_files():
        copied = tmp_path / path.name
        copied.write_text(yaml.safe_dump(scaled(read_rules(path), 0.01)))
        paths.append(str(copied))
    subprocess.run([tools["promtool"], "check", "rules", *paths], check=True, capture_output=True)


@given(st.integers(min_value=1, max_value=10**12))
def test_a_duration_reads_as_it_was_written(milliseconds: int) -> None:
    assert seconds(duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize("text", ["", "10", "m", "1.5h", "10m ago"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds(text)
