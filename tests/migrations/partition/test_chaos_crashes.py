"""The server crashed at random points of backfill and cutover, and started again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from migrations.partition.phases import Phase
from migrations.partition.runs import UNDOS
from tests.migrations.partition import application, chaos
from tests.migrations.partition.application import engine
from tests.migrations.partition.chaos import Operator, PersistentWriters, Result, Standing, Strike
from tests.servers import PostgresServer, running_postgres
from tests.soak import FACTOR, times

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 * FACTOR)]

POINTS = times(20)
EXCHANGES = {"backfill": 70, "cutover": 170, "rollback": 90}


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    # Its writes reach the operating system, which lives on: fsync adds nothing to a crash of the
    # processes alone.
    with running_postgres(shared_buffers="32MB") as server:
        yield server


@dataclass
class Crashes:
    """A server of our own that is crashed at the points of operators on one of its tables."""

    server: PostgresServer
    url: str
    directory: Path
    writers: PersistentWriters
    chance: random.Random
    points: dict[str, int] = field(default_factory=dict[str, int])
    survived: int = 0
    before: Standing = field(default_factory=lambda: Standing("", {}))

    @property
    def done(self) -> int:
        return sum(self.points.values())

    def operator(self, command: str, strike: Strike | None = None) -> Operator:
        arguments = [command, f"--spec={self.directory / 'spec.toml'}", "--attempts=400"]
        return Operator(self.url, self.directory / "output", arguments, strike, kill=False)

    def finish(self, command: str) -> Result:
        """Let a run do the job, undisturbed."""
        result = self.operator(command).result()
        assert result.code == 0, result.shown
        self.before = self.look()
        return result

    def crash(self, command: str) -> None:
        """Crash the server at a point of one run, start it again, and look at what is there."""
        operator = self.operator(command, Strike.at_random(self.chance, EXCHANGES[command]))
        struck = operator.wait_for_strike()
        if struck:
            self.server.stop("immediate")
            operator.go_on()
        result = operator.result()
        if struck:
            self.points[command] = self.points.get(command, 0) + 1
            self.server.start()
        if result.code == 0:
            self.survived += struck
        else:
            assert struck, result.shown
            assert result.code == 1, result.shown
            assert result.values["outcome"] in ("failed", "refused"), result.shown
            assert "connection" in result.message, result.shown
            assert "Traceback" not in result.shown
        now = self.look()
        if now.phase != "cutover":
            assert self.before.complete.items() <= now.complete.items()
        self.before = now

    def begin_anew(self) -> None:
        """Take everything back, and begin with sync again."""
        with engine(self.url) as work:
            for phase in (Phase.BACKFILL, Phase.SYNC):
                UNDOS[phase](work)
        self.before = Standing("", {})
        self.finish("sync")

    def look(self) -> Standing:
        assert self.writers.errors == []
        with psycopg.connect(self.url, autocommit=True) as connection:
            chaos.wait_until_gone(connection)
            return chaos.expect_consistent(connection)


def test_a_server_crashed_at_any_point_loses_nothing_and_the_next_run_finishes(
    server: PostgresServer, tmp_path: Path
) -> None:
    _, url = server.create_database()
    application.create(url, rows=2_000, days=240)
    application.write_spec(tmp_path / "spec.toml")
    with PersistentWriters(url, seed=5) as writers:
        crashes = Crashes(server, url, tmp_path, writers, random.Random(5))
        crashes.finish("prepare")
        crashes.finish("sync")
        for _ in range(POINTS // 2):
            crashes.crash("backfill")
            if crashes.before.phase == "backfill":
                crashes.begin_anew()
        crashes.finish("backfill")
        crashes.finish("verify")
        writers.far_months = False
        writers.may_be_partitioned = True
        writers.wait_for(20)
        while crashes.done < POINTS:
            command = "rollback" if crashes.before.phase == "cutover" else "cutover"
            crashes.crash(command)
            if crashes.done % 3 == 0:
                crashes.finish(command)
                crashes.finish("verify")
        crashes.finish("cutover")
        writers.wait_for(30)
    assert writers.errors == []
    assert writers.lost >= crashes.done
    assert set(crashes.points) == set(EXCHANGES)
    crashes.look()
    retired = crashes.operator("retire").result()
    assert retired.values["verified"], retired.shown
    print(f"crashed {crashes.done}: {crashes.points}; runs that did not notice: {crashes.survived}")
