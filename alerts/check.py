"""Checks everything here with the tools of Prometheus and Alertmanager."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from alerts import programs
from alerts.configuration import AlertmanagerSettings, rule_files
from alerts.render import default_prometheus_settings, write

TESTS = Path(__file__).resolve().parent / "tests"


def test_files() -> list[Path]:
    """Return the unit tests of the rules, for `promtool test rules`."""
    return sorted(TESTS.glob("*.test.yaml"))


def check() -> Iterator[str]:
    """Check rules, their tests and both configurations; yield what each tool said.

    Raises programs.ProgramError with the tool's output at the first that finds something wrong.
    """
    yield programs.run(["promtool", "check", "rules", *map(str, rule_files())])
    yield programs.run(["promtool", "test", "rules", *map(str, test_files())])
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        url_file = directory / "webhook.url"
        url_file.write_text("http://127.0.0.1:9094/")
        write(directory, default_prometheus_settings(), AlertmanagerSettings(url_file))
        yield programs.run(["promtool", "check", "config", str(directory / "prometheus.yml")])
        yield programs.run(["amtool", "check-config", str(directory / "alertmanager.yml")])
