"""Writers throughout all phases, and operators killed: nothing lost, nothing doubled, no error."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, UNDOS, run
from tests.migrations.partition import application
from tests.migrations.partition.application import SOAK, Writers, differences, engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 * SOAK)]


def expect_all_agree(url: str, one: LiteralString, other: LiteralString) -> None:
    with psycopg.connect(url) as connection:
        assert not differences(connection, one, "journal")
        assert not differences(connection, one, other)


@pytest.mark.parametrize("seed", range(2 * SOAK))
def test_writers_see_no_error_and_lose_nothing_in_any_phase(database_url: str, seed: int) -> None:
    application.create(database_url)
    with (
        Writers(database_url, threads=4, seed=100 * seed) as writers,
        engine(database_url, jobs=2) as work,
    ):
        writers.wait_for(30)
        for phase in (Phase.PREPARE, Phase.SYNC, Phase.BACKFILL, Phase.VERIFY):
            assert PHASES[phase](work).outcome == "done"
            writers.wait_for(60)
        writers.far_months = False
        writers.may_be_partitioned = True
        writers.wait_for(30)
        for _ in range(2):
            assert PHASES[Phase.CUTOVER](work).outcome == "done"
            writers.wait_for(100)
            assert PHASES[Phase.VERIFY](work).verified
            assert UNDOS[Phase.CUTOVER](work).outcome == "done"
            writers.wait_for(60)
            assert PHASES[Phase.VERIFY](work).verified
        assert PHASES[Phase.CUTOVER](work).outcome == "done"
        writers.wait_for(60)
    assert writers.errors == []
    expect_all_agree(database_url, "review_logs", "review_logs_retired")
    with engine(database_url) as work:
        assert PHASES[Phase.RETIRE](work).verified


def killed_at_random(url: str, chance: random.Random, arguments: list[str], longest: float) -> bool:
    """Run the command line, and kill it after a while; tell whether it ended before."""
    process = subprocess.Popen(
        application.command(*arguments, "--json", "--attempts=400"),
        env={**os.environ, "DATABASE_URL": url},
        cwd=application.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    # The start of Python takes a part of a second; the interesting time begins with its session.
    with psycopg.connect(url, autocommit=True) as connection:
        while process.poll() is None and time.monotonic() < deadline:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'partitioning %'"
            ).fetchone()
            if row and row[0]:
                break
            time.sleep(0.005)
    time.sleep(chance.random() * longest)
    ended = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), (output, errors)
    return ended and process.returncode == 0


@pytest.mark.skipif(SOAK == 1, reason="for `make soak`: test_chaos_kills.py kills at more points")
def test_a_killed_backfill_and_cutover_lose_nothing_and_the_next_run_finishes(
    database_url: str, tmp_path: Path
) -> None:
    application.create(database_url, rows=30_000)
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml')}"
    chance = random.Random(7)
    with Writers(database_url, threads=2, seed=7) as writers:
        with engine(database_url) as work:
            run(work, Phase.SYNC)
        complete: set[Any] = set()
        for _ in range(6 * SOAK):
            killed_at_random(database_url, chance, ["backfill", spec, "--jobs=2"], 1.0)
            with psycopg.connect(database_url, autocommit=True) as connection:
                live = connection.execute(
                    "SELECT month FROM partitioning.months WHERE state = 'live'"
                ).fetchall()
            # What was complete is not begun again.
            assert complete <= set(live)
            complete = set(live)
        code, result, shown = application.run(database_url, "backfill", spec, "--attempts=400")
        assert code == 0, (result, shown)
        code, result, shown = application.run(database_url, "verify", spec, "--attempts=400")
        assert (code, result["verified"]) == (0, True), shown
        writers.far_months = False
        writers.may_be_partitioned = True
        writers.wait_for(30)
        for _ in range(4 * SOAK):
            killed_at_random(database_url, chance, ["cutover", spec], 0.8)
            killed_at_random(database_url, chance, ["rollback", spec], 0.5)
        code, result, shown = application.run(database_url, "cutover", spec, "--attempts=400")
        assert code == 0, (result, shown)
        writers.wait_for(30)
    assert writers.errors == []
    expect_all_agree(database_url, "review_logs", "review_logs_retired")
    code, result, shown = application.run(database_url, "retire", spec)
    assert (code, result["verified"]) == (0, True), shown


def test_months_that_were_complete_are_not_loaded_again(database_url: str) -> None:
    application.create(database_url)
    with engine(database_url) as work, psycopg.connect(database_url, autocommit=True) as connection:
        run(work, Phase.BACKFILL)
        rows = "SELECT month, xmin::text FROM partitioning.months ORDER BY month"
        before = connection.execute(rows).fetchall()
        connection.execute(
            "UPDATE partitioning.months SET state = 'catching_up' WHERE month = ("
            "SELECT max(month) FROM partitioning.months)"
        )
        assert PHASES[Phase.BACKFILL](work).rows == 0
        assert connection.execute(rows).fetchall()[:-1] == before[:-1]
        assert not differences(connection, "review_logs", "review_logs_partitioned")
