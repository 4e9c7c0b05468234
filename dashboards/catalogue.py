"""All dashboards, as models of the foundation SDK and as JSON."""

from __future__ import annotations

import json

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards import learning_platform
from dashboards.layout import place
from dashboards.panel import DATASOURCE, Panel, build, build_row


def dashboards() -> list[model.Dashboard]:
    """Return all dashboards."""
    return [_learning_platform()]


def to_json(dashboard: model.Dashboard) -> str:
    """Return the JSON that Grafana imports or is provisioned with; the same each time."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)


def _learning_platform() -> model.Dashboard:
    dashboard = (
        builder.Dashboard(learning_platform.TITLE)
        .uid(learning_platform.UID)
        .description("Queues, workers, partitioning. Made by `python -m dashboards`: edit there.")
        .tags(["learning-platform", "generated"])
        .time("now-1h", "now")
        .timezone("browser")
        .refresh("10s")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            builder.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        .with_variable(
            builder.QueryVariable("queue")
            .label("Queue")
            .datasource(DATASOURCE)
            .query("label_values(bullmq_queue_size, queue)")
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".+")
            .current(model.VariableOption(text="All", value="$__all", selected=True))
        )
    )
    for part, placed in place(learning_platform.SECTIONS):
        if isinstance(part, Panel):
            dashboard.with_panel(build(part, placed))
        else:
            dashboard.with_row(build_row(part.title, placed))
    return dashboard.build()
