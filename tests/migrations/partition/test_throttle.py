"""Backfill holds back while paused, and while others need the server more."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from migrations.partition.bookkeeping import begun
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import Refused
from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, run
from migrations.partition.throttle import Throttle, pause, resume
from stacks.local.binaries import postgres_program
from stacks.local.identity import run_as
from tests.migrations.partition import application
from tests.migrations.partition.application import differences, engine
from tests.servers import PostgresServer, free_port


@pytest.fixture
def url(database_url: str) -> str:
    application.create(database_url)
    with engine(database_url) as work:
        run(work, Phase.SYNC)
    return database_url


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def waiting_for(connection: psycopg.Connection) -> str | None:
    row = connection.execute("SELECT waiting_for FROM partitioning.tables").fetchone()
    assert row is not None
    return row[0]


def copied(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT rows_copied FROM partitioning.progress").fetchone()
    assert row is not None
    return row[0]


@contextlib.contextmanager
def backfilling(work: Engine) -> Iterator[list[Outcome]]:
    """A backfill in the background; its outcome is there at the end."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(PHASES[Phase.BACKFILL](work)))
    thread.start()
    try:
        yield outcomes
    finally:
        thread.join(60)
    assert not thread.is_alive()


def test_a_running_backfill_stands_still_while_paused_and_goes_on_after(
    url: str, tmp_path: Path
) -> None:
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml')}"
    code, result, _ = application.run(url, "pause", spec)
    assert (code, result["outcome"]) == (0, "done")
    assert application.run(url, "pause", spec)[1]["outcome"] == "found"
    process = subprocess.Popen(
        application.command("backfill", spec, "--json"),
        env={**os.environ, "DATABASE_URL": url},
        cwd=application.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with psycopg.connect(url, autocommit=True) as connection:
        wait_for(lambda: waiting_for(connection))
        assert "paused since" in str(waiting_for(connection))
        time.sleep(1)
        assert copied(connection) == 0
        assert process.poll() is None
        assert "paused since" in application.run(url, "status", spec)[1]["message"]
        # Another session, as from another host, lets it go on.
        assert application.run(url, "resume", spec)[1]["outcome"] == "done"
        output, shown = process.communicate(timeout=30)
        assert process.returncode == 0
        assert json.loads(output.splitlines()[-1])["rows"] == 3000
        assert "holding back: paused since" in shown
        assert "going on" in shown
        assert waiting_for(connection) is None
        assert not differences(connection, "review_logs", "review_logs_partitioned")
    assert application.run(url, "resume", spec)[1]["outcome"] == "found"


def test_pausing_what_has_not_begun_is_refused(database_url: str) -> None:
    application.create(database_url, rows=10)
    with engine(database_url) as work:
        for command in (pause, resume):
            with pytest.raises(Refused, match="has not begun"):
                command(work)


def test_backfill_holds_back_while_sessions_wait_for_locks_on_the_table(url: str) -> None:
    with (
        psycopg.connect(url) as changer,
        psycopg.connect(url, autocommit=True) as connection,
        engine(url) as work,
        psycopg.connect(url) as reader,
    ):
        reader.execute("SELECT count(*) FROM review_logs")
        pid = changer.info.backend_pid
        change = threading.Thread(
            target=lambda: changer.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
        )
        change.start()
        wait_for(
            lambda: connection.execute(
                "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted", [pid]
            ).fetchone()
        )
        throttle = Throttle(work, begun(work.connection, work.spec).id)
        waited = threading.Thread(target=lambda: throttle.wait(work.connection))
        waited.start()
        wait_for(lambda: waiting_for(connection))
        assert "1 sessions wait for locks on the table" in str(waiting_for(connection))
        assert waited.is_alive()
        reader.rollback()
        change.join(10)
        changer.rollback()
        waited.join(10)
        assert not waited.is_alive()
        assert waiting_for(connection) is None


def test_backfill_holds_back_while_too_many_sessions_are_active(url: str) -> None:
    with (
        psycopg.connect(url, autocommit=True) as busy,
        psycopg.connect(url, autocommit=True) as connection,
        engine(url, max_active=0) as work,
    ):
        sleeping = threading.Thread(target=_sleep, args=(busy,))
        sleeping.start()
        with backfilling(work) as outcomes:
            wait_for(lambda: "1 sessions are active" in str(waiting_for(connection)))
            assert copied(connection) == 0
            busy.cancel_safe()
        sleeping.join(10)
        assert outcomes[0].rows == 3000


def _sleep(connection: psycopg.Connection) -> None:
    with contextlib.suppress(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(60)")


@pytest.mark.slow
def test_backfill_holds_back_while_a_standby_is_behind(
    unseeing_database_url: str, postgres_server: PostgresServer
) -> None:
    url = unseeing_database_url
    application.create(url)
    with engine(url) as work:
        run(work, Phase.SYNC)
    with (
        standby_of(postgres_server) as standby,
        engine(url, max_lag_bytes=200_000) as work,
        psycopg.connect(standby.url, autocommit=True) as replica,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        replica.execute("SELECT pg_wal_replay_pause()")
        connection.execute("CREATE TABLE bulk AS SELECT generate_series(1, 50000)")
        # A plain role sees no lag: refused, for it was asked for.
        with pytest.raises(Refused, match="may not see the lag of replication"):
            PHASES[Phase.BACKFILL](work)
        with psycopg.connect(postgres_server.url, autocommit=True) as admin:
            role = connection.info.user
            admin.execute(f'GRANT pg_read_all_stats TO "{role}"'.encode())
        with backfilling(work) as outcomes:
            wait_for(lambda: "bytes behind" in str(waiting_for(connection)))
            assert copied(connection) == 0
            replica.execute("SELECT pg_wal_replay_resume()")
        assert outcomes[0].rows == 3000
        assert waiting_for(connection) is None


@contextlib.contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A streaming standby of a test's server, in a directory beside its data."""
    directory = primary.directory / "standby"
    standby = PostgresServer(directory, free_port(), primary.password, primary.user)
    directory.mkdir()
    if standby.user:
        shutil.chown(directory, standby.user)
    subprocess.run(
        [
            *(str(postgres_program("pg_basebackup")), "--host=127.0.0.1", f"--port={primary.port}"),
            *("--username=postgres", f"--pgdata={standby.data_directory}", "--write-recovery-conf"),
            "--checkpoint=fast",
        ],
        env={**os.environ, "PGPASSWORD": primary.password},
        check=True,
        capture_output=True,
        cwd=directory,
        **run_as(primary.user),
    )
    with (standby.data_directory / "postgresql.auto.conf").open("a") as file:
        file.write(f"port = '{standby.port}'\n")
    standby.start()
    try:
        yield standby
    finally:
        standby.stop("immediate")
