"""Every panel's query against a real Prometheus that scrapes the real programs.

The whole local stack has such a test of its own; this one needs no Pulumi and no migrations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from alerts.configuration import (
    AlertmanagerSettings,
    PrometheusSettings,
    ScrapeTarget,
    prometheus_configuration,
)
from alerts.render import write
from dashboards.catalogue import dashboards
from dashboards.queries import queries
from tests.alerts.monitoring_servers import ask_prometheus, running_prometheus, wait_until
from tests.conftest import Tools
from tests.servers import free_port
from tests.workers import tables
from tests.workers.programs import programs_on

pytestmark = pytest.mark.slow

PROGRAMS = ("exporter", "fsrs-optimization", "complexity", "scheduler")
LEARNERS = 3
VIEW = """
CREATE SCHEMA partitioning;
CREATE VIEW partitioning.progress AS
SELECT 'review_logs'::text AS table_name, 'cutover'::text AS phase, 18::bigint AS months,
    18::bigint AS months_live, 1000::bigint AS rows_estimated, 1000::bigint AS rows_copied,
    0::bigint AS changes_pending, 3::bigint AS months_ahead, NULL::bigint AS default_rows,
    now() AS updated_at
"""


@pytest.fixture
def prometheus_url(
    database_url: str, redis_url: str, tools: Tools, tmp_path: Path
) -> Iterator[str]:
    """A Prometheus with the project's rules that has seen the workers finish their jobs."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(tables.DDL)
        connection.execute(VIEW)
        for seed in range(LEARNERS):
            tables.add_learner(connection, reviews=210, seed=seed)
    with programs_on(database_url, redis_url, tmp_path) as programs:
        ports = {name: free_port() for name in PROGRAMS}
        targets = [ScrapeTarget(name, f"127.0.0.1:{port}") for name, port in ports.items()]
        settings = PrometheusSettings(
            scrape_seconds=1, targets=tuple(targets), rule_files=("*.rules.yaml",)
        )
        directory = tmp_path / "prometheus"
        write(directory, settings, AlertmanagerSettings(Path("unused")))
        with running_prometheus(
            tools["prometheus"], directory, prometheus_configuration(settings)
        ) as url:
            for name in PROGRAMS:
                programs.ready(name, METRICS_PORT=str(ports[name]))
            wait_until(
                "the jobs are done",
                lambda: (
                    ask_prometheus(
                        url, f"sum(fsrs_optimization_jobs_processed_total) >= {LEARNERS}"
                    )
                    and ask_prometheus(url, "cdc_calculation_job_duration_seconds_count >= 1")
                ),
                90,
            )
            yield url


def test_every_query_finds_data_and_no_alert_but_the_watchdog_fires(prometheus_url: str) -> None:
    waited_for = {entry for dashboard in dashboards() for entry in queries(dashboard)}

    def all_found() -> bool:
        # A rate needs two scrapes of its series, and a recording rule its next evaluation.
        waited_for.difference_update(
            {entry for entry in waited_for if ask_prometheus(prometheus_url, entry[1])}
        )
        return not waited_for

    with contextlib.suppress(TimeoutError):
        wait_until("every query finds data", all_found, 30)
    assert not waited_for
    (alert,) = ask_prometheus(prometheus_url, 'ALERTS{alertstate="firing"}')
    assert "Watchdog" in str(alert)
