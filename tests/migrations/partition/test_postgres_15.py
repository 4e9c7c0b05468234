"""The whole way on Postgres 15, where the machine has it (Debian's place for it)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, UNDOS, run
from tests import servers
from tests.migrations.partition import application
from tests.migrations.partition.application import Writers, differences, engine
from tests.servers import running_postgres

PROGRAMS = Path("/usr/lib/postgresql/15/bin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="Postgres 15 is not installed"),
]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(servers, "postgres_program", lambda program: PROGRAMS / program)
    with running_postgres() as server:
        name, url = server.create_database()
        with psycopg.connect(
            server.url_for("postgres", name, server.password), autocommit=True
        ) as admin:
            row = admin.execute("SHOW server_version_num").fetchone()
            assert row is not None
            assert row[0].startswith("15")
            yield url


def test_all_phases_and_rollback_work_with_writers(url: str) -> None:
    application.create(url)
    with Writers(url, threads=2) as writers, engine(url) as work:
        run(work, Phase.BACKFILL)
        writers.wait_for(30)
        run(work, Phase.VERIFY)
        writers.far_months = False
        writers.may_be_partitioned = True
        writers.wait_for(30)
        run(work, Phase.CUTOVER)
        writers.wait_for(60)
        UNDOS[Phase.CUTOVER](work)
        writers.wait_for(30)
        assert PHASES[Phase.VERIFY](work).verified
        run(work, Phase.CUTOVER)
        writers.wait_for(30)
    assert writers.errors == []
    with psycopg.connect(url) as connection:
        assert not differences(connection, "review_logs", "journal")
        assert not differences(connection, "review_logs", "review_logs_retired")
        keys = connection.execute(
            "SELECT conname, convalidated FROM pg_constraint"
            " WHERE conrelid = 'review_logs'::regclass AND contype = 'f' ORDER BY 1"
        ).fetchall()
        assert keys == [("FK_actor", True), ("FK_flashcard", True)]
    with engine(url) as work:
        assert run(work, Phase.RETIRE).verified
