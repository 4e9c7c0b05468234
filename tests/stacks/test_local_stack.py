"""The local stack end to end, by the real engine: one stack, brought up once, the tests in order.

Those that come first look at it as `make up` left it; later ones change it, break it, take it down.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import psycopg
import pytest

from dashboards.catalogue import dashboards
from dashboards.queries import queries
from history.digest import review_digest
from stacks.local.supervisor import Supervisor
from tests.checkouts import Checkout, checked_out

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

METRICS = (
    "bullmq_queue_size",
    "fsrs_optimization_jobs_processed_total",
    "fsrs_optimization_job_duration_seconds_count",
    "cdc_calculation_job_duration_seconds_count",
    "jobs_failed_total",
)


@pytest.fixture(scope="module")
def checkout() -> Iterator[Checkout]:
    with checked_out() as checkout:
        yield checkout


@pytest.fixture(scope="module")
def brought_up(checkout: Checkout) -> str:
    """The stack as `make up` leaves it; the value is what that printed."""
    return checkout.stacks("up").stdout


@pytest.fixture(scope="module")
def outputs(checkout: Checkout, brought_up: str) -> dict[str, Any]:
    shown = checkout.pulumi("stack", "output", "-s", "local", "--json", "--show-secrets")
    return json.loads(shown.stdout)


@pytest.fixture
def connection(outputs: dict[str, Any]) -> Iterator[psycopg.Connection]:
    with psycopg.connect(outputs["database_url"], autocommit=True) as connection:
        yield connection


def within(seconds: float, condition: Callable[[], object]) -> None:
    """Wait until `condition` returns something true; its last value is told when time runs out."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {value!r}"
        time.sleep(0.5)


def prometheus(outputs: dict[str, Any], path: str, **parameters: str) -> Any:
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{outputs['prometheus_url']}/api/v1/{path}?{query}") as response:
        return json.load(response)["data"]


def has_data(outputs: dict[str, Any], query: str) -> bool:
    return bool(prometheus(outputs, "query", query=query)["result"])


def scalar(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_the_summary_says_what_runs_where_and_what_was_done(
    brought_up: str, outputs: dict[str, Any]
) -> None:
    assert outputs["prometheus_url"] in brought_up
    assert outputs["alertmanager_url"] in brought_up
    assert re.search(r"history\s.*200,000 reviews", brought_up)
    assert re.search(r"backfill\s.*200,000 rows at [\d,]+ rows/s", brought_up)
    assert re.search(r"verify\s.*the same rows", brought_up)
    password = urllib.parse.urlsplit(outputs["database_url"]).password
    assert password
    assert password not in brought_up
    assert "Where the" in brought_up


def test_every_trained_parameter_every_score_and_all_metrics_are_there_within_a_minute(
    outputs: dict[str, Any], connection: psycopg.Connection
) -> None:
    unfinished = """
        SELECT count(*) FROM actors
        WHERE (fsrs_parameters IS NULL OR NOT fsrs_log_loss < 'Infinity')
        AND (SELECT count(*) FROM review_logs WHERE "actorId" = actors.id) >= 200
    """
    unscored = "SELECT count(*) FROM nodes WHERE properties->>'cdc_score' IS NULL"

    def everything() -> bool:
        missing = [name for name in METRICS if not has_data(outputs, name)]
        return (
            not missing and not scalar(connection, unfinished) and not scalar(connection, unscored)
        )

    within(60, everything)
    trained = scalar(connection, "SELECT count(*) FROM actors WHERE fsrs_parameters IS NOT NULL")
    assert trained > 100
    assert scalar(
        connection,
        "SELECT bool_and(jsonb_array_length(fsrs_parameters->'weights') = 21) FROM actors"
        " WHERE fsrs_parameters IS NOT NULL",
    )
    assert scalar(
        connection,
        "SELECT min((properties->>'cdc_score')::float) >= 0"
        " AND max((properties->>'cdc_score')::float) <= 1 FROM nodes",
    )


def test_review_logs_is_partitioned_by_month_and_holds_just_the_rows_that_were_loaded(
    outputs: dict[str, Any], connection: psycopg.Connection
) -> None:
    loaded = outputs["database_steps"]["history"]
    assert loaded["rows"] == 200_000
    digest = review_digest(connection)
    assert (digest.rows, digest.digest) == (loaded["rows"], loaded["digest"])
    months = scalar(
        connection,
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'review_logs'::regclass",
    )
    assert months >= 18 + 3
    assert scalar(
        connection,
        "SELECT partattrs::text FROM pg_partitioned_table"
        " WHERE partrelid = 'review_logs'::regclass",
    ) == scalar(
        connection,
        "SELECT attnum::text FROM pg_attribute"
        " WHERE attrelid = 'review_logs'::regclass AND attname = 'reviewed_at'",
    )


def test_every_panel_of_every_dashboard_finds_data(outputs: dict[str, Any]) -> None:
    panels = [panel for dashboard in dashboards() for panel in queries(dashboard)]
    assert len(panels) > 5

    def empty() -> list[object]:
        return [panel for panel in panels if not has_data(outputs, panel[1])]

    within(90, lambda: not empty() or empty())


def test_no_alert_but_the_watchdog_fires(outputs: dict[str, Any]) -> None:
    def firing() -> set[str]:
        alerts = prometheus(outputs, "alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def all_up() -> bool:
        targets = prometheus(outputs, "targets")["activeTargets"]
        return {target["health"] for target in targets} == {"up"}

    # A first scrape and a first look at the rules take their intervals.
    within(60, firing)
    within(60, all_up)
    assert firing() == {"Watchdog"}


def test_the_alertmanager_has_the_watchdog_and_routes_what_fires_to_the_webhook(
    checkout: Checkout, outputs: dict[str, Any]
) -> None:
    alerts = f"{outputs['alertmanager_url']}/api/v2/alerts"
    with urllib.request.urlopen(alerts) as response:
        assert {alert["labels"]["alertname"] for alert in json.load(response)} == {"Watchdog"}
    rehearsal = [{"labels": {"alertname": "Rehearsal", "severity": "warning"}}]
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(
        urllib.request.Request(alerts, json.dumps(rehearsal).encode(), headers, method="POST")
    )
    received = checkout.directory / "alerts.jsonl"
    within(90, lambda: received.exists() and "Rehearsal" in received.read_text())


def test_a_second_up_changes_nothing(checkout: Checkout, brought_up: str) -> None:
    assert checkout.changes() == {}
    checkout.pulumi("preview", "--stack", "local", "--refresh", "--expect-no-changes")


def test_what_pulumi_called_by_hand_writes_into_the_settings_is_taken_out_again(
    checkout: Checkout, brought_up: str
) -> None:
    settings = checkout.root / "Pulumi.local.yaml"
    before = (checkout.root / ".local" / "local" / "Pulumi.local.yaml").read_text()
    checkout.pulumi("preview", "--stack", "local")
    assert "encryptionsalt" in settings.read_text()
    checkout.stacks("preview")
    assert settings.read_text() in before
    settings.write_text(settings.read_text() + "encryptionsalt: v1:of:another\n")
    refused = checkout.stacks("preview", check=False)
    assert refused.returncode == 1
    assert "Pulumi.local.yaml holds the encryptionsalt of another checkout" in refused.stderr
    settings.write_text(settings.read_text().replace("encryptionsalt: v1:of:another\n", ""))


def test_env_prints_the_addresses_for_a_shell(checkout: Checkout, outputs: dict[str, Any]) -> None:
    exported = checkout.exports()
    for name in ("database_url", "redis_url", "prometheus_url", "alertmanager_url"):
        assert exported[name.upper()] == outputs[name]


def test_status_is_well_while_everything_runs(checkout: Checkout, brought_up: str) -> None:
    shown = checkout.stacks("status").stdout
    assert "RUNNING" in shown
    assert "not running" not in shown


def test_no_secret_is_in_plain_state_in_a_log_in_a_process_list_or_in_a_preview(
    checkout: Checkout, outputs: dict[str, Any]
) -> None:
    secrets = {
        urllib.parse.urlsplit(outputs[name]).password for name in ("database_url", "redis_url")
    }
    assert None not in secrets
    for process in checkout.processes():
        assert not any(str(secret) in " ".join(process.cmdline()) for secret in secrets)
    handed_over = [checkout.directory / "programs", checkout.directory / "services"]
    for path in (checkout.root / ".local").rglob("*"):
        if (checkout.directory / "data") in path.parents or not path.is_file():
            continue
        if any(str(secret).encode() in path.read_bytes() for secret in secrets):
            # How a process gets it: a file that nobody else may read.
            assert any(directory in path.parents for directory in handed_over), path
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    shown = checkout.pulumi("preview", "--stack", "local", "--diff", "--show-sames").stdout
    assert not any(str(secret) in shown for secret in secrets)


def test_a_service_that_died_is_noticed_and_started_again(
    checkout: Checkout, outputs: dict[str, Any]
) -> None:
    supervisor = Supervisor(checkout.directory)
    supervisor._call("stopProcess", "exporter", True)
    assert checkout.stacks("status", check=False).returncode == 1
    checkout.pulumi("refresh", "--stack", "local", "--yes")
    assert set(checkout.changes()) == {"local-exporter"}
    checkout.stacks("up")
    state = supervisor.state("exporter")
    assert state is not None
    assert state.running
    assert checkout.changes() == {}


def test_a_killed_supervisor_is_noticed_and_everything_comes_back(
    checkout: Checkout, outputs: dict[str, Any], connection: psycopg.Connection
) -> None:
    before = review_digest(connection)
    connection.close()
    os.kill(Supervisor(checkout.directory).pid(), signal.SIGKILL)
    checkout.stacks("up")
    with psycopg.connect(outputs["database_url"]) as again:
        assert review_digest(again) == before
    assert checkout.changes() == {}


def test_a_changed_setting_restarts_just_what_it_touches(checkout: Checkout) -> None:
    def started() -> dict[str, int]:
        supervisor = Supervisor(checkout.directory)
        states = {name: supervisor.state(name) for name in supervisor.programs()}
        return {name: state.started for name, state in states.items() if state}

    before = started()
    checkout.configure("learning-platform:monitoring", {"scrapeSeconds": 4})
    assert set(checkout.changes()) == {"local-prometheus"}
    checkout.stacks("up")
    after = started()
    assert {name for name in before if before[name] != after[name]} == {"prometheus"}


def test_a_wrong_setting_is_refused_before_anything_changes(checkout: Checkout) -> None:
    checkout.configure("learning-platform:partitioning", {"phase": "cutovr"})
    refused = checkout.stacks("up", check=False)
    checkout.configure("learning-platform:partitioning", {"phase": "cutover"})
    assert refused.returncode == 1
    told = refused.stdout + refused.stderr
    assert "learning-platform:partitioning.phase: got 'cutovr', takes" in told
    assert "Traceback" not in told
    assert checkout.changes() == {}


def test_going_back_a_phase_swaps_back_and_forward_again_without_losing_a_row(
    checkout: Checkout, connection: psycopg.Connection
) -> None:
    before = review_digest(connection)
    partitioned = "SELECT relkind = 'p' FROM pg_class WHERE oid = 'review_logs'::regclass"
    checkout.configure("learning-platform:partitioning", {"phase": "verify"})
    assert {name: step["op"] for name, step in checkout.changes().items()} == {
        "local-cutover": "delete"
    }
    checkout.stacks("up")
    assert not scalar(connection, partitioned)
    assert review_digest(connection) == before
    connection.execute(
        """INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time)
        SELECT "flashcardId", "actorId", 3, state, 0 FROM review_logs LIMIT 1"""
    )
    added = review_digest(connection)
    assert added.rows == before.rows + 1
    checkout.configure("learning-platform:partitioning", {"phase": "cutover"})
    changes = checkout.changes()
    assert {name: step["op"] for name, step in changes.items()} == {"local-cutover": "create"}
    sql = changes["local-cutover"]["newState"]["inputs"]["sql"]
    assert any("RENAME TO" in line for line in sql)
    checkout.stacks("up")
    assert scalar(connection, partitioned)
    assert review_digest(connection) == added


def test_the_next_phase_shows_as_exactly_one_new_step_with_its_sql(
    checkout: Checkout, connection: psycopg.Connection
) -> None:
    before = review_digest(connection)
    checkout.configure("learning-platform:partitioning", {"phase": "retire"})
    changes = checkout.changes()
    assert {name: step["op"] for name, step in changes.items()} == {"local-retire": "create"}
    shown = checkout.pulumi("preview", "--stack", "local", "--diff").stdout
    assert "DROP TABLE" in shown
    assert "+ 1 to create" in shown
    checkout.stacks("up")
    assert review_digest(connection) == before


def test_a_retired_table_cannot_be_had_back_and_the_message_says_what_to_do(
    checkout: Checkout, connection: psycopg.Connection
) -> None:
    before = review_digest(connection)
    checkout.configure("learning-platform:partitioning", {"phase": "cutover"})
    refused = checkout.stacks("up", check=False)
    assert refused.returncode == 1
    assert "retire cannot be taken back" in refused.stdout + refused.stderr
    assert review_digest(connection) == before
    checkout.configure("learning-platform:partitioning", {"phase": "retire"})
    checkout.stacks("up")
    assert checkout.changes() == {}


def test_another_checkout_runs_beside_it(checkout: Checkout, outputs: dict[str, Any]) -> None:
    settings: dict[str, object] = {
        "learning-platform:history": {"source": "none"},
        "learning-platform:partitioning": {"phase": "schema"},
    }
    with checked_out(settings) as other:
        other.stacks("up")
        theirs = other.exports()
        assert theirs["DATABASE_URL"] != outputs["database_url"]
        with psycopg.connect(theirs["DATABASE_URL"]) as connection:
            assert review_digest(connection).rows == 0
        processes = other.processes()
        assert processes
        other.stacks("down")
        assert not other.processes()
    assert checkout.stacks("status").returncode == 0


def test_destroy_leaves_no_process_and_the_data_survives(
    checkout: Checkout, outputs: dict[str, Any], connection: psycopg.Connection
) -> None:
    before = review_digest(connection)
    connection.close()
    processes = checkout.processes()
    checkout.stacks("down")
    assert not checkout.processes()
    assert not any(process.is_running() for process in processes)
    assert checkout.stacks("status", check=False).returncode == 1
    checkout.stacks("up")
    again = checkout.exports()["DATABASE_URL"]
    assert again != outputs["database_url"]
    with psycopg.connect(again) as connection:
        assert review_digest(connection) == before


def test_destroy_deletes_the_data_where_it_is_not_to_be_kept(checkout: Checkout) -> None:
    checkout.configure("local:keepData", False)
    checkout.stacks("up")
    data = checkout.directory / "data"
    assert (data / "postgres" / "cluster" / "PG_VERSION").exists()
    checkout.stacks("down")
    assert not any(data.iterdir())
    assert not [p for p in psutil.process_iter() if str(checkout.root) in " ".join(_command(p))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
