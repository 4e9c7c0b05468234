"""All dashboards, as models of the foundation SDK and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards import aws, learning_platform
from dashboards.layout import place
from dashboards.panel import DATASOURCE, Panel, Section, build, build_row


def dashboards() -> list[model.Dashboard]:
    """Return the dashboards that every stack has."""
    return [_learning_platform()]


def aws_dashboards() -> list[model.Dashboard]:
    """Return the dashboards that only stacks on AWS have, beside those of every stack."""
    return [_aws()]


def to_json(dashboard: model.Dashboard) -> str:
    """Return the JSON that Grafana imports or is provisioned with; the same each time."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)


def _learning_platform() -> model.Dashboard:
    dashboard = _titled(
        learning_platform.TITLE,
        learning_platform.UID,
        "Queues, workers, partitioning. Made by `python -m dashboards`: edit there.",
        ["learning-platform", "generated"],
    )
    dashboard.time("now-1h", "now").refresh("10s").with_variable(
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
    return _filled(dashboard, learning_platform.SECTIONS)


def _aws() -> model.Dashboard:
    dashboard = _titled(
        aws.TITLE,
        aws.UID,
        "RDS and ElastiCache by CloudWatch. Made by `python -m dashboards`: edit there.",
        ["learning-platform", "generated", "aws"],
    )
    dashboard.time("now-24h", "now").refresh("5m")
    return _filled(dashboard, aws.SECTIONS)


def _titled(title: str, uid: str, description: str, tags: list[str]) -> builder.Dashboard:
    return (
        builder.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(tags)
        .timezone("browser")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            builder.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )


def _filled(dashboard: builder.Dashboard, sections: Sequence[Section]) -> model.Dashboard:
    for part, placed in place(sections):
        if isinstance(part, Panel):
            dashboard.with_panel(build(part, placed))
        else:
            dashboard.with_row(build_row(part.title, placed))
    return dashboard.build()
