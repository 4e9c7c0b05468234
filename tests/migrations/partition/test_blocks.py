"""The load in one pass over the table, for tables where no index finds the rows of a month."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from migrations.partition import blocks
from migrations.partition.backfill import finds_months
from migrations.partition.catalogue import read_table
from migrations.partition.errors import Interrupted
from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, UNDOS, run
from tests.migrations.partition import application
from tests.migrations.partition.application import Writers, differences, engine
from tests.soak import times

pytestmark = [pytest.mark.slow, pytest.mark.timeout(times(300))]

COPIED = "SELECT rows_copied FROM partitioning.progress"


def create(url: str, rows: int = 3000, order: LiteralString = "reviewed_at") -> None:
    """Create the tables, without the index that leads with the key."""
    application.create(url, rows)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute('DROP INDEX "IDX_review_logs_reviewed_at"')
        if order != "reviewed_at":
            connection.execute(
                "CREATE TABLE kept AS TABLE review_logs; TRUNCATE review_logs;"
                "INSERT INTO review_logs TABLE kept ORDER BY " + order + "; DROP TABLE kept"
            )
        connection.execute("VACUUM ANALYZE review_logs")


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of one block, for a pass of many slices over a small table."""
    monkeypatch.setattr(blocks, "_FIRST_SLICE_BLOCKS", 1)
    monkeypatch.setattr(blocks, "SLICE_SECONDS", 0.0)


def after_slices(
    monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], object]
) -> None:
    """Do something, once, after so many slices are loaded."""
    loaded = 0
    load_slice = blocks._load_slice  # pyright: ignore[reportPrivateUsage]

    def counted(*arguments: object) -> bool:
        nonlocal loaded
        more = load_slice(*arguments)  # pyright: ignore[reportArgumentType]
        loaded += 1
        if loaded == number:
            action()
        return more

    monkeypatch.setattr(blocks, "_load_slice", counted)


@pytest.mark.parametrize("order", ["reviewed_at", "id"])
def test_all_months_are_loaded_in_one_pass(database_url: str, order: LiteralString) -> None:
    create(database_url, order=order)
    with engine(database_url, jobs=2) as work, psycopg.connect(database_url) as connection:
        outcome = run(work, Phase.BACKFILL)
        assert outcome.rows == 3000
        assert not differences(connection, "review_logs", "review_logs_partitioned")
        counted = connection.execute(
            "SELECT m.rows, (SELECT count(*) FROM review_logs"
            " WHERE date_trunc('month', reviewed_at) = m.month) FROM partitioning.months AS m"
        ).fetchall()
        assert all(rows == there for rows, there in counted)
        assert connection.execute("TABLE partitioning.ranges").fetchall() == []
        assert connection.execute(
            "SELECT to_regclass('partitioning.public_review_logs_loading')"
        ).fetchone() == (None,)
        assert PHASES[Phase.VERIFY](work).verified


def test_the_next_slice_is_fitted_to_a_second_by_at_most_four_times() -> None:
    assert blocks.adapted(1000, seconds=2.0) == 500
    assert blocks.adapted(1000, seconds=0.5) == 2000
    assert blocks.adapted(1000, seconds=0.001) == 4000
    assert blocks.adapted(1000, seconds=60.0) == 250
    assert blocks.adapted(1, seconds=60.0) == 1


@pytest.mark.usefixtures("small_slices")
def test_a_stopped_pass_goes_on_where_it_was(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(database_url)
    with (
        engine(database_url, jobs=1) as work,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        run(work, Phase.SYNC)
        after_slices(monkeypatch, 20, work.stopping.set)
        with pytest.raises(Interrupted):
            PHASES[Phase.BACKFILL](work)
        (loaded,) = connection.execute(COPIED).fetchone() or (0,)
        assert 0 < loaded < 3000
        work.stopping.clear()
        assert PHASES[Phase.BACKFILL](work).rows == 3000 - loaded
        assert connection.execute(COPIED).fetchone() == (3000,)
        assert not differences(connection, "review_logs", "review_logs_partitioned")


@pytest.mark.usefixtures("small_slices")
def test_a_row_that_is_met_in_two_versions_is_there_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(database_url)
    doubled: list[int] = []
    with (
        engine(database_url, jobs=1) as work,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        # Room for new versions behind what is loaded first.
        connection.execute("DELETE FROM review_logs WHERE ctid >= '(30,0)' AND ctid < '(50,0)'")
        connection.execute("VACUUM review_logs")
        run(work, Phase.SYNC)
        after_slices(
            monkeypatch,
            5,
            lambda: connection.execute("UPDATE review_logs SET rating = 2 WHERE ctid < '(4,0)'"),
        )
        end = blocks._end  # pyright: ignore[reportPrivateUsage]

        def counted(*arguments: object) -> None:
            (number,) = connection.execute(
                "SELECT count(*) - count(DISTINCT (id, reviewed_at))"
                " FROM partitioning.public_review_logs_loading"
            ).fetchone() or (0,)
            doubled.append(number)
            end(*arguments)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(blocks, "_end", counted)
        PHASES[Phase.BACKFILL](work)
        assert doubled[0] > 0
        assert not differences(connection, "review_logs", "review_logs_partitioned")


@pytest.mark.usefixtures("small_slices")
def test_a_table_that_is_rewritten_meanwhile_is_loaded_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(database_url)
    said: list[str] = []
    with (
        engine(database_url, jobs=1) as work,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        # What the rewriting moves to the front, the pass would miss behind.
        connection.execute("DELETE FROM review_logs WHERE ctid < '(10,0)'")
        run(work, Phase.SYNC)
        monkeypatch.setattr(work.reporter, "say", said.append)
        after_slices(monkeypatch, 20, lambda: connection.execute("VACUUM FULL review_logs"))
        PHASES[Phase.BACKFILL](work)
        assert any("rewritten" in line for line in said)
        assert not differences(connection, "review_logs", "review_logs_partitioned")


@pytest.mark.usefixtures("small_slices")
def test_an_unfinished_pass_is_taken_back_with_sync(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(database_url)
    with (
        engine(database_url, jobs=1) as work,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        before = application.fingerprint(connection)
        run(work, Phase.SYNC)
        with monkeypatch.context() as patched:
            after_slices(patched, 20, work.stopping.set)
            with pytest.raises(Interrupted):
                PHASES[Phase.BACKFILL](work)
        work.stopping.clear()
        UNDOS[Phase.SYNC](work)
        assert connection.execute(COPIED).fetchone() == (0,)
        assert PHASES[Phase.SYNC](work).outcome == "done"
        assert PHASES[Phase.BACKFILL](work).rows == 3000
        for phase in (Phase.BACKFILL, Phase.SYNC, Phase.PREPARE):
            UNDOS[phase](work)
        assert application.fingerprint(connection) == before


def test_an_index_is_used_only_where_it_finds_a_months_rows_together(database_url: str) -> None:
    orders: list[tuple[LiteralString, bool]] = [("reviewed_at", True), ("id", False)]
    for order, together in orders:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS review_logs, journal, actors, flashcards")
        create(database_url, order=order)
        with engine(database_url) as work:
            table = read_table(work.connection, "public", "review_logs")
            assert table is not None
            assert not finds_months(work, table)
            work.connection.execute("CREATE INDEX ON public.review_logs (reviewed_at)")
            table = read_table(work.connection, "public", "review_logs")
            assert table is not None
            assert finds_months(work, table) == together


_SMALL_SLICES = """
from migrations.partition import blocks, cli
blocks._FIRST_SLICE_BLOCKS = 1
blocks.SLICE_SECONDS = 0.0
cli.main()
"""


def test_killed_passes_under_writers_lose_nothing_and_do_nothing_twice(
    database_url: str, tmp_path: Path
) -> None:
    create(database_url, rows=20_000)
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml')}"
    chance = random.Random(3)
    with (
        Writers(database_url, threads=2, seed=3) as writers,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        with engine(database_url) as work:
            run(work, Phase.SYNC)
        done = 0
        unfinished = 0
        for _ in range(times(4)):
            process = subprocess.Popen(
                [sys.executable, "-c", _SMALL_SLICES, "backfill", spec, "--attempts=400"],
                env={**os.environ, "DATABASE_URL": database_url},
                cwd=application.ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            deadline = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < deadline:
                row = connection.execute(
                    "SELECT count(*), sum(next_block - first_block) FROM partitioning.ranges"
                ).fetchone()
                if row and row[0] and row[1] > done:
                    break
                time.sleep(0.005)
            time.sleep(chance.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            process.wait()
            row = connection.execute(
                "SELECT count(*), sum(next_block - first_block) FROM partitioning.ranges"
            ).fetchone()
            if row and row[0]:
                # What was loaded stays loaded.
                assert row[1] >= done
                done = row[1]
                unfinished += 1
        assert unfinished > 0
        writers.far_months = False
        for phase in ("backfill", "verify"):
            code, result, shown = application.run(database_url, phase, spec, "--attempts=400")
            assert code == 0, (result, shown)
        writers.may_be_partitioned = True
        code, result, shown = application.run(database_url, "cutover", spec, "--attempts=400")
        assert code == 0, (result, shown)
        writers.wait_for(30)
    assert writers.errors == []
    with psycopg.connect(database_url) as connection:
        assert not differences(connection, "review_logs", "journal")
        assert not differences(connection, "review_logs", "review_logs_retired")
