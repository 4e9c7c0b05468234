"""Rule files as data: what they hold, and the same rules with time running faster."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alerts.configuration import duration

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "y": 31_536_000}
_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
# Ranges and subqueries ([10m], [1h:5m], [1h:]) and offsets; what stands in quotes is left alone.
_TIMES = re.compile(
    r"""(?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    rf"|\[\s*(?P<range>{_DURATION})\s*(?P<colon>:\s*(?P<step>{_DURATION})?\s*)?\]"
    rf"|\boffset\s+(?P<sign>-?)\s*(?P<offset>{_DURATION})"
)


@dataclass(frozen=True)
class AlertRule:
    """One alerting rule and the file it stands in."""

    file: Path
    name: str
    expression: str
    labels: dict[str, str]
    annotations: dict[str, str]


def read_rules(path: Path) -> dict[str, Any]:
    """Return the content of a rule file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alert_rules(path: Path) -> Iterator[AlertRule]:
    """Return the alerting rules of a rule file, in order."""
    for group in read_rules(path)["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                yield AlertRule(
                    file=path,
                    name=rule["alert"],
                    expression=rule["expr"],
                    labels=rule.get("labels", {}),
                    annotations=rule.get("annotations", {}),
                )


def seconds(text: str) -> float:
    """Return the seconds of a duration of Prometheus: 5400 for `1h30m`. Raises ValueError."""
    if not re.fullmatch(_DURATION, text):
        raise ValueError(f"{text!r} is no duration")
    return sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))


def scaled(rules: dict[str, Any], factor: float) -> dict[str, Any]:
    """Return the rules with every duration multiplied by `factor`: 0.01 makes 10 minutes 6 seconds.

    For tests that wait for the real rules in real servers. `for`, `keep_firing_for`, the group's
    `interval`, ranges and offsets of expressions are durations. Plain numbers stay as they are: a
    threshold of 100 jobs stays, and so does `> 900`, whose metric is in seconds, and `* 3600`,
    which makes a slope per second one per hour. Recorded names keep the window in their name.
    """
    result = copy.deepcopy(rules)
    for group in result["groups"]:
        _scale_keys(group, ("interval",), factor)
        for rule in group["rules"]:
            _scale_keys(rule, ("for", "keep_firing_for"), factor)
            rule["expr"] = scaled_expression(rule["expr"], factor)
    return result


def scaled_expression(expression: str, factor: float) -> str:
    """Return the expression with its ranges, subquery steps and offsets multiplied by `factor`."""

    def scaled_duration(text: str | None) -> str:
        return duration(seconds(text) * factor) if text else ""

    def replace(match: re.Match[str]) -> str:
        if match["quoted"]:
            return match["quoted"]
        if match["offset"]:
            return f"offset {match['sign']}{scaled_duration(match['offset'])}"
        step = f":{scaled_duration(match['step'])}" if match["colon"] else ""
        return f"[{scaled_duration(match['range'])}{step}]"

    return _TIMES.sub(replace, expression)


def _scale_keys(mapping: dict[str, Any], keys: tuple[str, ...], factor: float) -> None:
    for key in keys:
        if key in mapping:
            mapping[key] = duration(seconds(mapping[key]) * factor)
