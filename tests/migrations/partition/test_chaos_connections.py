"""The engine's connections lost in mid-phase: ended by somebody, or dropped on the way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from migrations.partition.locks import OPERATOR_CLASS
from migrations.partition.phases import Phase
from migrations.partition.runs import UNDOS
from tests.migrations.partition import application, chaos
from tests.migrations.partition.application import engine
from tests.migrations.partition.chaos import Operator, PersistentWriters, Result, Standing, Strike
from tests.migrations.partition.proxy import dropping_proxy
from tests.servers import PostgresServer
from tests.soak import FACTOR, times

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 * FACTOR)]

EXCHANGES = {"sync": 12, "backfill": 80, "verify": 25, "cutover": 130, "rollback": 60}
COMMANDS = ("sync", "backfill", "backfill", "backfill", "verify", "cutover", "cutover", "rollback")

ENGINE: LiteralString = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND starts_with(application_name, 'partitioning ') ORDER BY random()"
)
OPERATOR: LiteralString = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s::oid"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@dataclass
class Losses:
    """One table, and operators on it that lose connections."""

    url: str
    directory: Path
    connection: psycopg.Connection
    chance: random.Random
    before: Standing = field(default_factory=lambda: Standing("", {}))
    failed: int = 0
    unnoticed: int = 0

    def operator(
        self, command: str, strike: Strike | None = None, url: str = "", output: str = "output"
    ) -> Operator:
        arguments = [command, f"--spec={self.directory / 'spec.toml'}", "--attempts=400"]
        return Operator(
            url or self.url, self.directory / output, arguments, strike, kill=strike is None
        )

    def finish(self, command: str) -> None:
        result = self.operator(command).result()
        assert result.code == 0, result.shown
        self.look()

    def expect_clear(self, result: Result) -> None:
        """Assert that a run that lost a connection said so, if it noticed."""
        assert "Traceback" not in result.shown
        if result.code == 0:
            self.unnoticed += 1
            return
        self.failed += 1
        assert result.code == 1, result.shown
        assert "connection" in result.message, result.shown
        assert "run it again" in result.message or "cannot connect" in result.message

    def look(self) -> None:
        chaos.wait_until_gone(self.connection)
        now = chaos.expect_consistent(self.connection)
        if now.phase not in ("sync", "cutover"):
            assert self.before.complete.items() <= now.complete.items()
        self.before = now

    def begin_anew(self) -> None:
        with engine(self.url) as work:
            for phase in (Phase.VERIFY, Phase.BACKFILL, Phase.SYNC):
                UNDOS[phase](work)
        self.before = Standing("", {})

    def terminate(self, query: LiteralString, most: int, *parameters: int) -> int:
        """End up to so many of the engine's sessions; return how many there were."""
        rows = self.connection.execute(query, parameters).fetchmany(most)
        for (pid,) in rows:
            self.connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        return len(rows)


def test_sessions_ended_at_any_point_lose_nothing_and_the_next_run_finishes(
    database_url: str, tmp_path: Path
) -> None:
    application.create(database_url, rows=1_500, days=150)
    application.write_spec(tmp_path / "spec.toml")
    with (
        PersistentWriters(database_url, seed=21) as writers,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        writers.far_months = False
        writers.may_be_partitioned = True
        losses = Losses(database_url, tmp_path, connection, random.Random(21))
        losses.finish("prepare")
        points = 0
        for _ in range(times(2)):
            for command in COMMANDS:
                strike = Strike.at_random(losses.chance, EXCHANGES[command])
                operator = losses.operator(command, strike)
                if operator.wait_for_strike():
                    # All of them, or any one: the operator's own, or one of its workers'.
                    points += losses.terminate(ENGINE, losses.chance.choice([1, 1, 9])) > 0
                    operator.go_on()
                losses.expect_clear(operator.result())
                losses.look()
                losses.finish(command)
            losses.begin_anew()
    assert writers.errors == []
    assert losses.failed >= points // 2
    print(f"ended sessions at {points} points: {losses.failed} runs failed")


def test_an_operator_who_lost_its_lock_and_the_next_one_do_not_double_anything(
    database_url: str, tmp_path: Path
) -> None:
    application.create(database_url, rows=1_500, days=150)
    application.write_spec(tmp_path / "spec.toml")
    with (
        PersistentWriters(database_url, seed=22) as writers,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        losses = Losses(database_url, tmp_path, connection, random.Random(22))
        losses.finish("prepare")
        for _ in range(times(4)):
            losses.finish("sync")
            # Past the operator's own preparations, where the workers are busy.
            strike = Strike(losses.chance.randint(45, 110), "amid")
            first = losses.operator("backfill", strike)
            assert first.wait_for_strike()
            assert losses.terminate(OPERATOR, 1, OPERATOR_CLASS) == 1
            second = losses.operator("backfill", output="second")
            finished = second.result()
            assert finished.code == 0, finished.shown
            losses.expect_clear(first.result())
            losses.look()
            losses.finish("verify")
            losses.begin_anew()
    assert writers.errors == []


def test_connections_dropped_on_the_way_lose_nothing_and_the_next_run_finishes(
    database_url: str, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    application.create(database_url, rows=1_500, days=150)
    application.write_spec(tmp_path / "spec.toml")
    with (
        PersistentWriters(database_url, seed=23) as writers,
        psycopg.connect(database_url, autocommit=True) as connection,
        dropping_proxy(postgres_server.port) as proxy,
    ):
        writers.far_months = False
        writers.may_be_partitioned = True
        losses = Losses(database_url, tmp_path, connection, random.Random(23))
        through = proxy.url_for(database_url)
        losses.finish("prepare")
        drops = 0
        for _ in range(times(2)):
            for command in COMMANDS:
                # Half of the time answers are lost first: what was asked for is done all the same.
                proxy.drop_after(
                    losses.chance.randint(2_000, 18_000), losses.chance.choice([0.0, 0.05])
                )
                losses.expect_clear(losses.operator(command, url=through).result())
                drops += proxy.dropped
                proxy.allow()
                losses.look()
                losses.finish(command)
            losses.begin_anew()
    assert writers.errors == []
    assert losses.failed >= drops // 2
    print(f"dropped {drops} times: {losses.failed} runs failed")
