"""Writes the configuration as files, as Prometheus and Alertmanager read them."""

from __future__ import annotations

from pathlib import Path

from alerts.configuration import (
    AlertmanagerSettings,
    PrometheusSettings,
    ScrapeTarget,
    alertmanager_configuration,
    prometheus_configuration,
    rule_files,
)

# The programs' own default ports (`python -m workers exporter --help`), and the servers'.
DEFAULT_TARGETS = (
    ScrapeTarget("fsrs-optimization", "127.0.0.1:9201"),
    ScrapeTarget("complexity", "127.0.0.1:9202"),
    ScrapeTarget("scheduler", "127.0.0.1:9203"),
    ScrapeTarget("exporter", "127.0.0.1:9204"),
    ScrapeTarget("prometheus", "127.0.0.1:9090"),
    ScrapeTarget("alertmanager", "127.0.0.1:9093"),
)


def default_prometheus_settings() -> PrometheusSettings:
    """Return settings for programs that run by hand on their default ports."""
    return PrometheusSettings(
        scrape_seconds=5,
        targets=DEFAULT_TARGETS,
        alertmanagers=("127.0.0.1:9093",),
        rule_files=("*.rules.yaml",),
    )


def write(
    directory: Path, prometheus: PrometheusSettings, alertmanager: AlertmanagerSettings
) -> list[Path]:
    """Write `prometheus.yml`, `alertmanager.yml` and the rules into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    contents = {
        "prometheus.yml": prometheus_configuration(prometheus),
        "alertmanager.yml": alertmanager_configuration(alertmanager),
        **{f"{path.stem}.rules.yaml": path.read_text(encoding="utf-8") for path in rule_files()},
    }
    paths: list[Path] = []
    for name, content in contents.items():
        path = directory / name
        path.write_text(content, encoding="utf-8")
        paths.append(path)
    return paths
