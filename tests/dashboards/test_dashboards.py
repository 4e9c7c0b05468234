"""The dashboards as Grafana gets them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from dashboards.catalogue import dashboards, to_json
from dashboards.layout import place
from dashboards.panel import GRID_WIDTH, Panel, Section
from dashboards.queries import UnknownVariableError, queries, substitute
from tests.conftest import ROOT, Tools
from tests.dashboards import promtool

DASHBOARDS: list[dict[str, Any]] = [json.loads(to_json(each)) for each in dashboards()]
PANELS: list[dict[str, Any]] = [
    panel for dashboard in DASHBOARDS for panel in dashboard["panels"] if panel["type"] != "row"
]

each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each["uid"])
each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dashboards", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@each_dashboard
def test_panels_have_unique_ids_and_titles(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 20
    assert len({panel["title"] for panel in panels}) == len(panels)


@each_dashboard
def test_panels_lie_on_the_grid_and_not_on_each_other(dashboard: dict[str, Any]) -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        columns = range(at["x"], at["x"] + at["w"])
        return {(x, y) for x in columns for y in range(at["y"], at["y"] + at["h"])}

    for panel in dashboard["panels"]:
        assert all(0 <= x < GRID_WIDTH for x, _ in cells(panel)), panel["title"]
    for one, other in combinations(dashboard["panels"], 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])


@each_dashboard
def test_the_data_source_and_the_queue_can_be_chosen(dashboard: dict[str, Any]) -> None:
    source, queue = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert queue["name"] == "queue"
    assert queue["includeAll"]
    assert queue["allValue"] == ".+"
    assert queue["datasource"]["uid"] == "${datasource}"


@each_panel
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]


@each_panel
def test_a_panel_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["datasource"] == chosen
    assert panel["targets"]
    assert all(target["datasource"] == chosen for target in panel["targets"])
    names = [target["refId"] for target in panel["targets"]]
    assert len(set(names)) == len(names)


@each_panel
def test_rates_take_the_interval_that_grafana_chooses(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for part in target["expr"].split("rate(")[1:]:
            assert "[$__rate_interval]" in part


@each_panel
def test_a_heatmap_gets_buckets(panel: dict[str, Any]) -> None:
    if panel["type"] == "heatmap":
        (target,) = panel["targets"]
        assert target["format"] == "heatmap"
        assert "sum by (le)" in target["expr"]
        assert "_bucket" in target["expr"]


def test_the_metrics_that_were_asked_for_are_shown() -> None:
    shown = " ".join(expression for each in dashboards() for _, expression in queries(each))
    for metric in (
        "bullmq_queue_size",
        "jobs_failed_total",
        "fsrs_optimization_jobs_processed_total",
        "fsrs_optimization_job_duration_seconds_bucket",
        "cdc_calculation_job_duration_seconds_bucket",
    ):
        assert metric in shown


def test_promtool_can_parse_every_query(tools: Tools, tmp_path: Path) -> None:
    expressions = [expression for each in dashboards() for _, expression in queries(each)]
    said = promtool.check(tools["promtool"], expressions, tmp_path)
    assert f"{len(expressions)} rules found" in said


def test_the_json_is_the_same_each_time() -> None:
    first, second = call("render"), call("render")
    assert first.stdout == second.stdout == "".join(f"{to_json(each)}\n" for each in dashboards())


def test_render_writes_a_file_a_dashboard(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    for _ in range(2):
        assert call("render", "--output", str(directory)).returncode == 0
    assert [json.loads(path.read_text()) for path in sorted(directory.iterdir())] == DASHBOARDS
    assert [path.name for path in directory.iterdir()] == ["learning-platform.json"]


def test_a_directory_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    completed = call("render", "--output", str(tmp_path / "file"))
    assert completed.returncode == 1
    assert completed.stderr.startswith("--output: ")
    assert completed.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [(), ("render",), ("queries",)])
def test_help_is_given(command: tuple[str, ...]) -> None:
    completed = call(*command, "--help")
    assert completed.returncode == 0
    assert "Usage" in completed.stdout


def test_queries_have_no_variable_left() -> None:
    for each in dashboards():
        found = queries(each, {"__rate_interval": "7m"})
        assert any("[7m]" in expression for _, expression in found)
        assert not any("$" in expression for _, expression in found)


@pytest.mark.parametrize("variable", ["$queue", "${queue}", "${queue:regex}"])
def test_a_variable_is_replaced_however_it_is_written(variable: str) -> None:
    assert substitute(f'x{{queue=~"{variable}"}}', {"queue": "a|b"}) == 'x{queue=~"a|b"}'


def test_a_variable_without_a_value_is_named() -> None:
    with pytest.raises(UnknownVariableError, match=r"\$queues in: x"):
        substitute("x[$queues]", {"queue": ""})


def panel(width: int, height: int) -> Panel:
    return Panel("p", "d", "short", (), width=width, height=height)


def test_panels_are_placed_line_by_line() -> None:
    sections = [
        Section("one", (panel(12, 4), panel(12, 8), panel(24, 2))),
        Section("two", (panel(18, 3), panel(8, 3))),
    ]
    places = [(placed.number, placed.x, placed.y) for _, placed in place(sections)]
    assert places == [
        (1, 0, 0),
        (2, 0, 1),
        (3, 12, 1),
        (4, 0, 9),
        (5, 0, 11),
        (6, 0, 12),
        (7, 0, 15),
    ]


def test_a_panel_wider_than_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="p: the width must be 1 to 24"):
        list(place([Section("one", (panel(25, 1),))]))
