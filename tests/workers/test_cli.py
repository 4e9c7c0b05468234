"""The command line: help, exit codes, one clear message."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tests.workers.programs import ROOT
from workers.cli import app


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("program", "variable"),
    [
        ("fsrs-optimization", "FSRS_MIN_REVIEWS"),
        ("complexity", "CDC_DECAY_PER_DAY"),
        ("scheduler", "COMPLEXITY_CRON"),
        ("exporter", "QUEUES"),
    ],
)
def test_help_names_the_variables_of_each_program(program: str, variable: str) -> None:
    result = CliRunner().invoke(app, [program, "--help"])
    assert result.exit_code == 0
    for name in (variable, "DATABASE_URL", "REDIS_URL", "METRICS_PORT", "LOG_FORMAT"):
        assert name in result.output


def test_help_names_the_programs_and_an_unknown_one_is_wrong_usage() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for program in ("fsrs-optimization", "complexity", "scheduler", "exporter"):
        assert program in shown.stdout
    assert run("cdc").returncode == 2


def test_refused_settings_end_with_1_and_nothing_but_the_reason() -> None:
    refused = run("scheduler", DATABASE_URL="postgresql://db/learning", REDIS_URL="http://queue")
    assert refused.returncode == 1
    assert refused.stderr.startswith("REDIS_URL: takes a URL like redis://")
    assert len(refused.stderr.splitlines()) == 1


def test_a_port_in_use_ends_with_1_and_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run(
            "exporter",
            DATABASE_URL="postgresql://127.0.0.1:1/x",
            REDIS_URL="redis://127.0.0.1:1",
            METRICS_PORT=port,
        )
    assert refused.returncode == 1
    assert refused.stderr == (
        f"METRICS_HOST, METRICS_PORT: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    )
