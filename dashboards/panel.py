"""Panels and sections as data, and their builders of Grafana's foundation SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

GRID_WIDTH = 24
DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

Built = TypeVar("Built", stat.Panel, timeseries.Panel, heatmap.Panel)


@dataclass(frozen=True)
class Target:
    """One query of a panel, and what its series are called in the legend."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel; `width` is in columns of 24, `height` in rows of about 30 pixels.

    A `stat` shows the value now, a `timeseries` its course, a `heatmap` a histogram's buckets over
    time. `stacked` lays series on each other. `warn` and `alarm` are the values from which on a
    `stat`, which counts whole things where its unit is short, turns orange and red.
    """

    title: str
    description: str
    unit: str
    targets: tuple[Target, ...]
    kind: Literal["stat", "timeseries", "heatmap"] = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    warn: float | None = None
    alarm: float | None = None


@dataclass(frozen=True)
class Section:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Placed:
    """A panel's number in its dashboard and its place on the grid."""

    number: int
    x: int
    y: int


def build(panel: Panel, placed: Placed) -> stat.Panel | timeseries.Panel | heatmap.Panel:
    """Return the builder of a panel."""
    if panel.kind == "stat":
        built = _common(stat.Panel(), panel, placed).thresholds(_thresholds(panel))
        return (
            built.reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
            .color_mode(common.BigValueColorMode.VALUE)
            .graph_mode(common.BigValueGraphMode.AREA)
        )
    if panel.kind == "heatmap":
        return (
            _common(heatmap.Panel(), panel, placed)
            .y_axis(heatmap.YAxisConfig().unit(panel.unit))
            .color(
                heatmap.HeatmapColorOptions()
                .mode(heatmap_model.HeatmapColorMode.SCHEME)
                .scheme("Oranges")
                .steps(64)
            )
        )
    built = _common(timeseries.Panel(), panel, placed)
    built.fill_opacity(40 if panel.stacked else 10)
    built.line_width(1)
    built.show_points(common.VisibilityMode.NEVER)
    built.legend(
        common_builder.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    built.tooltip(
        common_builder.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    if panel.stacked:
        built.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    return built


def build_row(title: str, placed: Placed) -> dashboard_builder.Row:
    """Return the builder of a section's heading."""
    position = model.GridPos(h=1, w=GRID_WIDTH, x=placed.x, y=placed.y)
    return dashboard_builder.Row(title).id(placed.number).grid_pos(position)


def _common(built: Built, panel: Panel, placed: Placed) -> Built:
    built.id(placed.number)
    built.title(panel.title)
    built.description(panel.description)
    built.datasource(DATASOURCE)
    built.unit(panel.unit)
    built.grid_pos(model.GridPos(h=panel.height, w=panel.width, x=placed.x, y=placed.y))
    if panel.minimum is not None:
        built.min(panel.minimum)
    if panel.maximum is not None:
        built.max(panel.maximum)
    if panel.kind == "stat" and panel.unit == units.Short:
        built.decimals(0)
    for number, target in enumerate(panel.targets):
        built.with_target(_query(panel, target, number))
    return built


def _query(panel: Panel, target: Target, number: int) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(target.expression).ref_id(chr(ord("A") + number))
    query.datasource(DATASOURCE)
    query.legend_format(target.legend or "__auto")
    query.range()
    if panel.kind == "heatmap":
        query.format(PromQueryFormat.HEATMAP)
    return query


def _thresholds(panel: Panel) -> dashboard_builder.ThresholdsConfig:
    steps = [model.Threshold(color="green", value=None)]
    for color, value in (("orange", panel.warn), ("red", panel.alarm)):
        if value is not None:
            steps.append(model.Threshold(color=color, value=value))
    return dashboard_builder.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
