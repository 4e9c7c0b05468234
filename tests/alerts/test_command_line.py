"""`python -m alerts` as it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alerts import programs
from tests.alerts.monitoring_servers import ROOT
from tests.conftest import Tools


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        [sys.executable, "-m", "alerts", *arguments],
        env={**kept, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("command", [(), ("check",), ("render",), ("receiver",), ("drill",)])
def test_help_is_given(command: tuple[str, ...]) -> None:
    completed = call(*command, "--help")
    assert completed.returncode == 0
    assert "Usage" in completed.stdout


def test_check_runs_all_tools(tools: Tools) -> None:
    completed = call("check", PATH=tools.search_path)
    assert completed.returncode == 0, completed.stderr
    for what in ("queues.yaml", "queues.test.yaml", "prometheus.yml", "alertmanager.yml"):
        assert what in completed.stdout


def test_a_tool_that_is_missing_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    with pytest.raises(programs.ProgramError, match="promtool is missing: run `make tools`"):
        programs.find("promtool")


def test_what_a_tool_finds_wrong_is_passed_on(tools: Tools, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("groups: [{name: g, rules: [{alert: A, expr: 'rate(x)'}]}]")
    with pytest.raises(programs.ProgramError, match=r"expected type range vector"):
        programs.run([tools["promtool"], "check", "rules", str(wrong)])


def test_render_writes_the_files(tmp_path: Path) -> None:
    completed = call("render", "--output", str(tmp_path / "new"))
    assert completed.returncode == 0
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names >= {"prometheus.yml", "alertmanager.yml", "queues.rules.yaml"}


def test_a_drill_without_a_stack_names_the_variables() -> None:
    completed = call("drill", "queue-growth")
    assert completed.returncode == 1
    for variable in ("REDIS_URL", "PROMETHEUS_URL", "ALERTMANAGER_URL"):
        assert f"{variable}: is not set" in completed.stderr


def test_a_wrong_variable_is_named_and_secrets_are_not_shown() -> None:
    completed = call(
        "drill",
        "queue-growth",
        REDIS_URL="http://:verysecret@127.0.0.1:1/0",
        PROMETHEUS_URL="127.0.0.1:9090",
        ALERTMANAGER_URL="http://127.0.0.1:9093",
    )
    assert completed.returncode == 1
    assert "REDIS_URL: takes a URL like redis://host:port" in completed.stderr
    assert "PROMETHEUS_URL: takes a URL like http://host:port" in completed.stderr
    assert "verysecret" not in completed.stderr


def test_an_unknown_drill_is_wrong_usage() -> None:
    assert call("drill", "earthquake").returncode == 2


def test_a_drill_without_a_name_is_wrong_usage_that_names_the_drills() -> None:
    completed = call("drill")
    assert completed.returncode == 2
    assert "name one of queue-growth, job-failures, or --clean" in completed.stderr
