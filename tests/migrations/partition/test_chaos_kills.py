"""The client killed with SIGKILL at random points of every phase, with writers at work."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from migrations.partition.phases import Phase
from migrations.partition.runs import UNDOS
from tests.migrations.partition import application, chaos
from tests.migrations.partition.application import engine
from tests.migrations.partition.chaos import Operator, PersistentWriters, Result, Standing, Strike
from tests.soak import FACTOR, times

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 * FACTOR)]

POINTS = times(50)
ROWS = 2_000
# About how many exchanges with the server each takes here; of backfill, a part of them, so that it
# takes several runs to finish.
EXCHANGES = {"backfill": 150, "verify": 40, "cutover": 170, "rollback": 90}


@dataclass
class Kills:
    """One table, operators killed on it, and what was there after each of them."""

    url: str
    directory: Path
    connection: psycopg.Connection
    writers: PersistentWriters
    chance: random.Random
    points: dict[str, int] = field(default_factory=dict[str, int])
    before: Standing = field(default_factory=lambda: Standing("", {}))

    @property
    def done(self) -> int:
        return sum(self.points.values())

    def operate(self, command: str, strike: Strike | None = None) -> Result:
        arguments = [command, f"--spec={self.directory / 'spec.toml'}", "--attempts=400"]
        result = Operator(self.url, self.directory / "output", arguments, strike).result()
        assert result.was_killed or result.code == 0, result.shown
        return result

    def kill(self, command: str) -> bool:
        """Kill one run, and look at what it left; False if it ended before its point."""
        result = self.operate(command, Strike.at_random(self.chance, EXCHANGES[command]))
        chaos.wait_until_gone(self.connection)
        now = chaos.expect_consistent(self.connection)
        assert self.writers.errors == []
        if now.phase != "cutover":
            # Complete months stay as they are, down to their files.
            assert self.before.complete.items() <= now.complete.items()
        self.before = now
        if result.was_killed:
            self.points[command] = self.points.get(command, 0) + 1
        return result.was_killed

    def kill_several(self, command: str, most: int) -> None:
        """Kill up to so many runs, then let one finish the job."""
        for _ in range(most):
            if not self.kill(command):
                break
        self.operate(command)
        self.before = chaos.expect_consistent(self.connection)

    def begin_anew(self) -> None:
        """Take everything back, and begin with sync again."""
        with engine(self.url) as work:
            for phase in (Phase.VERIFY, Phase.BACKFILL, Phase.SYNC):
                UNDOS[phase](work)
        self.operate("sync")
        self.before = Standing("", {})


def test_a_client_killed_at_any_point_loses_nothing_and_the_next_run_finishes(
    database_url: str, tmp_path: Path
) -> None:
    application.create(database_url, rows=ROWS, days=240)
    application.write_spec(tmp_path / "spec.toml")
    with (
        PersistentWriters(database_url, seed=11) as writers,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        kills = Kills(database_url, tmp_path, connection, writers, random.Random(11))
        kills.operate("prepare")
        kills.operate("sync")
        while True:
            kills.kill_several("backfill", 9)
            kills.kill_several("verify", 3)
            writers.far_months = False
            writers.may_be_partitioned = True
            writers.wait_for(20)
            for _ in range(2):
                # New months, if the last far rows made some.
                kills.operate("verify")
                kills.kill_several("cutover", 4)
                assert kills.before.phase == "cutover"
                kills.kill_several("rollback", 3)
                assert kills.before.phase == "verify"
            if kills.done >= POINTS:
                break
            kills.begin_anew()
        kills.operate("cutover")
        writers.wait_for(30)
    assert writers.errors == []
    assert set(kills.points) == set(EXCHANGES)
    with psycopg.connect(database_url) as connection:
        chaos.expect_consistent(connection)
    retired = kills.operate("retire")
    assert retired.values["verified"], retired.shown
    print(f"killed {kills.done}: {kills.points}")
