"""Sessions that hold locks for ever: a phase gives up naming them, and nothing has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, UNDOS, run
from tests.migrations.partition import application, chaos
from tests.migrations.partition.application import engine
from tests.migrations.partition.chaos import Operator, Result

pytestmark = pytest.mark.slow

READ = "SELECT count(*) FROM review_logs"
WRITE = "UPDATE review_logs SET rating = 1 WHERE elapsed_time = 1"
WRITE_REFERENCED = 'UPDATE actors SET "createdAt" = now()'
READ_REFERENCED = "SELECT count(*) FROM flashcards"
READ_VIEW = "SELECT count(*) FROM recent"
READ_COPY = "SELECT count(*) FROM review_logs_partitioned"
READ_RETIRED = "SELECT count(*) FROM review_logs_retired"
LOCK = "LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE"

STARVED: list[tuple[Phase | None, str, LiteralString]] = [
    (None, "prepare", LOCK),
    (Phase.PREPARE, "sync", WRITE),
    (Phase.PREPARE, "sync", LOCK),
    (Phase.SYNC, "backfill", WRITE),
    (Phase.SYNC, "backfill", LOCK),
    (Phase.BACKFILL, "verify", LOCK),
    (Phase.VERIFY, "cutover", READ),
    (Phase.VERIFY, "cutover", WRITE),
    (Phase.VERIFY, "cutover", LOCK),
    (Phase.VERIFY, "cutover", READ_VIEW),
    (Phase.VERIFY, "cutover", READ_COPY),
    (Phase.VERIFY, "cutover", WRITE_REFERENCED),
    (Phase.CUTOVER, "rollback", READ),
    (Phase.CUTOVER, "rollback", WRITE),
    (Phase.CUTOVER, "rollback", READ_REFERENCED),
    (Phase.CUTOVER, "retire", READ_RETIRED),
    (Phase.CUTOVER, "retire", WRITE),
]
# What backfill did before it was starved stays.
CHANGING = ("backfill",)


@pytest.fixture
def url(database_url: str) -> str:
    application.create(database_url, rows=300, days=60)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE VIEW recent AS SELECT * FROM review_logs WHERE rating = 4")
    return database_url


def unchanging(connection: psycopg.Connection) -> list[Any]:
    """The fingerprint, without functions that no trigger calls yet: swaps write them first."""
    found = application.fingerprint(connection)
    functions = [name for (name,) in found[3] if not name.startswith("public_review_logs_")]
    return [*found[:3], functions, *found[4:]]


def operate(url: str, directory: Path, command: str, attempts: int = 2) -> Result:
    application.write_spec(directory / "spec.toml")
    options = [f"--spec={directory / 'spec.toml'}", f"--attempts={attempts}", "--lock-timeout=100"]
    return Operator(url, directory / "output", [command, *options]).result()


@pytest.mark.parametrize(("done", "command", "statement"), STARVED)
def test_a_phase_that_is_starved_names_the_holder_and_changes_nothing(
    url: str, tmp_path: Path, done: Phase | None, command: str, statement: LiteralString
) -> None:
    if done:
        with engine(url) as work:
            run(work, done)
    with psycopg.connect(url, autocommit=True) as observer:
        before = unchanging(observer)
        stood = chaos.standing(observer)
        with psycopg.connect(url) as holder:
            holder.execute(statement)
            result = operate(url, tmp_path, command)
            assert result.code == 1, result.shown
            assert result.values["outcome"] == "refused", result.shown
            assert f"pid {holder.info.backend_pid} " in result.message
            assert "Traceback" not in result.shown
            holder.rollback()
        assert chaos.standing(observer).phase == stood.phase
        if command not in CHANGING:
            assert unchanging(observer) == before
        result = operate(url, tmp_path, command, attempts=100)
        assert result.code == 0, result.shown
        if command != "retire":
            chaos.expect_consistent(observer)


def test_cutover_waits_for_a_snapshot_that_is_older_than_the_copy_and_names_it(
    url: str, tmp_path: Path
) -> None:
    with psycopg.connect(url) as reader, psycopg.connect(url, autocommit=True) as observer:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM actors")
        with engine(url) as work:
            run(work, Phase.VERIFY)
        before = unchanging(observer)
        result = operate(url, tmp_path, "cutover")
        assert result.code == 1, result.shown
        assert f"pid {reader.info.backend_pid} " in result.message
        assert unchanging(observer) == before
        assert reader.execute("SELECT count(*) FROM review_logs").fetchone() == (300,)
        reader.rollback()
        assert operate(url, tmp_path, "cutover", attempts=100).code == 0
        chaos.expect_consistent(observer)


def test_starved_swaps_leave_nothing_behind_when_everything_is_taken_back(
    url: str, tmp_path: Path
) -> None:
    with (
        psycopg.connect(url, autocommit=True) as observer,
        psycopg.connect(url) as holder,
        engine(url) as work,
    ):
        before = application.fingerprint(observer)
        run(work, Phase.VERIFY)
        for command, afterwards in (
            ("cutover", PHASES[Phase.CUTOVER]),
            ("rollback", UNDOS[Phase.CUTOVER]),
            ("cutover", None),
        ):
            holder.execute(READ)
            result = operate(url, tmp_path, command)
            assert result.code == 1, result.shown
            holder.rollback()
            if afterwards:
                afterwards(work)
        for phase in reversed(list(Phase)[:-1]):
            UNDOS[phase](work)
        assert application.fingerprint(observer) == before


@pytest.mark.parametrize("relation", ["review_logs", "partition"])
def test_a_vacuum_that_takes_long_holds_nothing_up(url: str, relation: str) -> None:
    # VACUUM and ANALYZE, the automatic ones too, hold SHARE UPDATE EXCLUSIVE.
    with psycopg.connect(url) as vacuum, engine(url, attempts=3) as work:
        run(work, Phase.BACKFILL if relation == "partition" else Phase.SYNC)
        if relation == "partition":
            row = vacuum.execute("SELECT max(partition_name) FROM partitioning.months").fetchone()
            assert row is not None
            vacuum.commit()
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "UPDATE partitioning.months SET state = 'catching_up'"
                    " WHERE partition_name = %s",
                    row,
                )
            vacuum.execute(
                sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.Identifier(*row))
            )
        else:
            vacuum.execute("LOCK TABLE review_logs IN SHARE UPDATE EXCLUSIVE MODE")
        assert PHASES[Phase.BACKFILL](work).outcome == "done"
        vacuum.rollback()
        assert PHASES[Phase.VERIFY](work).verified
