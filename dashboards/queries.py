"""The queries of a dashboard as Prometheus takes them, without Grafana's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import Dataquery

VARIABLES: Mapping[str, str] = {
    # Every queue, as "All" is in Grafana.
    "queue": ".+",
    # What Grafana takes for a range of an hour at a scrape interval of 5 s is 20 s to a minute.
    "__rate_interval": "1m",
    "__interval": "15s",
    "__range": "1h",
}

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::\w+)?\}|(?P<plain>\w+))")


class UnknownVariableError(ValueError):
    """A query has a variable no value is known for; the message names it."""


def queries(
    dashboard: model.Dashboard, variables: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Return (panel title, query) for every query of every panel, in the dashboard's order.

    Grafana's variables are replaced by the values of VARIABLES, and of `variables`, which has
    precedence: `queries(dashboard, {"__rate_interval": "5m"})`. A query that divides by what ended
    in a window of time in which nothing did returns a series whose value is NaN: the series is
    there, and so is every metric in it.

    Raises UnknownVariableError.
    """
    values = {**VARIABLES, **(variables or {})}
    panels = [panel for panel in dashboard.panels or [] if not isinstance(panel, model.RowPanel)]
    return [
        (panel.title or "", substitute(target.expr, values))
        for panel in panels
        for target in panel.targets or []
        if isinstance(target, Dataquery)
    ]


def substitute(expression: str, values: Mapping[str, str]) -> str:
    """Return the expression with `$name`, `${name}` and `${name:format}` replaced."""

    def replace(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        if name not in values:
            raise UnknownVariableError(f"no value for ${name} in: {expression}")
        return values[name]

    return _VARIABLE.sub(replace, expression)
