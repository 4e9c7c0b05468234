"""`verify --repair` mends what differs, in both directions, under writers."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from migrations.partition.errors import Refused
from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, run
from tests.migrations.partition import application
from tests.migrations.partition.application import Writers, differences, engine

# What somebody does who writes past the triggers: rows changed, moved, lost, and made up.
_DAMAGE = (
    "UPDATE {0} SET rating = 9 WHERE elapsed_time BETWEEN 10 AND 19",
    "UPDATE {0} SET reviewed_at = reviewed_at + interval '40 days' WHERE elapsed_time = 20",
    "DELETE FROM {0} WHERE elapsed_time BETWEEN 30 AND 39",
    "INSERT INTO {0} (state, reviewed_at) SELECT '{{}}', now() FROM generate_series(1, 7)",
)


def damage(url: str, table: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _DAMAGE:
            connection.execute(statement.format(table).encode())


@pytest.mark.parametrize(
    ("phase", "other"),
    [(Phase.VERIFY, "review_logs_partitioned"), (Phase.CUTOVER, "review_logs_retired")],
)
def test_what_differs_is_brought_to_the_state_of_the_table_in_use(
    database_url: str, tmp_path: Path, phase: Phase, other: str
) -> None:
    application.create(database_url)
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml')}"
    with engine(database_url) as work:
        run(work, phase)
    digest = "SELECT sum(hash_record_extended(t, 0)::numeric) FROM review_logs AS t"
    with psycopg.connect(database_url, autocommit=True) as connection:
        before = connection.execute(digest).fetchone()
        damage(database_url, other)
        code, result, _ = application.run(database_url, "verify", spec)
        assert code == 1
        assert "verify --repair" in result["message"]
        code, result, shown = application.run(database_url, "verify", spec, "--repair")
        assert (code, result["verified"]) == (0, True), shown
        # The moved row differs in two months.
        assert "29 of them repaired" in result["message"]
        assert "repairing:" in shown
        assert connection.execute(digest).fetchone() == before
        assert connection.execute(f"SELECT count(*) FROM {other}".encode()).fetchone() == (3000,)
        code, result, _ = application.run(database_url, "verify", spec, "--repair")
        assert "repaired" not in result["message"]
    with engine(database_url) as work:
        run(work, Phase.RETIRE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "other"),
    [(Phase.VERIFY, "review_logs_partitioned"), (Phase.CUTOVER, "review_logs_retired")],
)
def test_repair_goes_on_beside_writers(database_url: str, phase: Phase, other: str) -> None:
    application.create(database_url)
    with engine(database_url, repair=True) as work:
        run(work, phase)
        with Writers(database_url, threads=3, seed=3) as writers:
            writers.far_months = False
            writers.may_be_partitioned = phase is Phase.CUTOVER
            writers.wait_for(50)
            # Rows that no writer has a hand in: those of the first load.
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(
                    f"DELETE FROM {other} WHERE id IN (SELECT id FROM {other}"
                    " WHERE id NOT IN (SELECT id FROM journal ORDER BY id LIMIT 40)"
                    " AND elapsed_time BETWEEN 1 AND 200 LIMIT 90)".encode()
                )
            writers.wait_for(20)
            assert PHASES[Phase.VERIFY](work).verified
            writers.wait_for(50)
        assert writers.errors == []
    with psycopg.connect(database_url) as connection:
        assert not differences(connection, "review_logs", "journal")
        if other == "review_logs_partitioned":
            assert not differences(connection, "review_logs", "review_logs_partitioned")
        else:
            assert not differences(connection, "review_logs", "review_logs_retired")


def test_a_run_mends_what_differs_before_it_goes_on(database_url: str, tmp_path: Path) -> None:
    application.create(database_url, rows=300)
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml')}"
    with engine(database_url) as work:
        run(work, Phase.BACKFILL)
    damage(database_url, "review_logs_partitioned")
    code, result, _ = application.run(database_url, "run", spec)
    assert (code, "differ" in result["message"]) == (1, True)
    code, result, shown = application.run(database_url, "run", spec, "--repair")
    assert code == 0, shown
    with psycopg.connect(database_url) as connection:
        assert differences(connection, "review_logs", "review_logs_retired") == []


def test_without_repair_nothing_is_mended(database_url: str) -> None:
    application.create(database_url, rows=200)
    with engine(database_url) as work, psycopg.connect(database_url, autocommit=True) as connection:
        run(work, Phase.VERIFY)
        connection.execute("DELETE FROM review_logs_partitioned WHERE elapsed_time = 3")
        for _ in range(2):
            with pytest.raises(Refused, match="missing in the copy"):
                PHASES[Phase.VERIFY](work)
