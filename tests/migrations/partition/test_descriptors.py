"""Sessions that may know less partitions of the new table than there are."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from migrations.partition import backfill, bookkeeping, descriptors, maintain
from migrations.partition.phases import Phase
from migrations.partition.runs import run
from tests.migrations.databases import background, session, wait_for
from tests.migrations.partition import application
from tests.migrations.partition.application import SPEC, engine

_INSERT: LiteralString = """
INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time, reviewed_at)
SELECT f.id, a.id, 3, '{}', -7, %s
FROM (SELECT id FROM flashcards LIMIT 1) AS f, (SELECT id FROM actors LIMIT 1) AS a
"""
_PARTITIONED = sql.Identifier("public", "review_logs_partitioned")


_HELD = """
SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = %s::regclass
    AND mode <> 'AccessShareLock'
"""


def test_a_writer_reads_no_list_of_partitions_while_months_go_live(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.create(database_url, rows=300, days=90)
    bring_month_live = backfill.bring_month_live
    written: list[tuple[date, list[Any]]] = []
    with (
        psycopg.connect(database_url, autocommit=True, prepare_threshold=0) as writer,
        writer.transaction(),
        engine(database_url, jobs=1) as work,
    ):

        def bring_live_and_write(*arguments: Any) -> None:
            bring_month_live(*arguments)
            month: date = arguments[2]
            moment = datetime.combine(month, datetime.min.time()) + timedelta(days=1)
            writer.execute(_INSERT, [moment])
            writer.execute("UPDATE review_logs SET rating = 4 WHERE reviewed_at = %s", [moment])
            writer.execute(
                "UPDATE review_logs SET id = gen_random_uuid() WHERE reviewed_at = %s", [moment]
            )
            writer.execute(_INSERT, [moment])
            writer.execute(
                "DELETE FROM review_logs WHERE reviewed_at = %s AND rating = 4", [moment]
            )
            # Only who goes by the new table itself reads the list, and locks it as a writer does.
            held = writer.execute(_HELD, [_PARTITIONED.as_string()]).fetchall()
            written.append((month, held))

        monkeypatch.setattr(backfill, "bring_month_live", bring_live_and_write)
        run(work, Phase.BACKFILL)
    assert len(written) > 3
    assert [held for _, held in written] == [[]] * len(written)
    with engine(database_url) as work:
        run(work, Phase.CUTOVER)
        rows = work.connection.execute(
            "SELECT reviewed_at::date FROM public.review_logs WHERE elapsed_time = -7"
        ).fetchall()
    assert sorted(rows) == sorted((month + timedelta(days=1),) for month, _ in written)


def test_sessions_are_told_of_partitions_once_those_at_the_table_are_gone(
    database_url: str,
) -> None:
    application.create(database_url, rows=30, days=90)
    with engine(database_url) as work:
        run(work, Phase.BACKFILL)
        record = bookkeeping.required(work.connection, SPEC, Phase.BACKFILL)
        with session(database_url, "reader", "BEGIN", "SELECT FROM review_logs_partitioned") as one:
            pid = one.info.backend_pid
            assert descriptors.refresh(work, _PARTITIONED, record.id, 0.2) == [pid]
            with (
                background(
                    lambda: descriptors.refresh(work, _PARTITIONED, record.id, 20)
                ) as results,
                session(database_url, "later", "BEGIN", "SELECT FROM review_logs_partitioned"),
            ):
                one.execute("ROLLBACK")
                # Who came later is not waited for.
                wait_for(lambda: results)
            assert results == [[]]


def test_triggers_go_by_the_partitions_while_a_session_may_not_know_all_of_them(
    database_url: str,
) -> None:
    application.create(database_url, rows=30, days=90)
    with engine(database_url) as work:
        with session(database_url, "reader") as reader:
            run(work, Phase.SYNC)
            reader.execute("BEGIN")
            reader.execute("SELECT FROM review_logs_partitioned")
            run(work, Phase.BACKFILL)
            assert not _is_short(work.connection)
        run(work, Phase.VERIFY)
        assert _is_short(work.connection)


def _is_short(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "SELECT prosrc LIKE '%%All months in between are live%%' FROM pg_proc"
        " WHERE proname = 'public_review_logs_forward_insert'"
    ).fetchone()
    assert row is not None
    return row[0]


def test_maintenance_tells_of_its_months_and_names_who_may_not_know_them(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintain, "_PATIENCE_SECONDS", 0.2)
    application.create(database_url, rows=30, days=90)
    with engine(database_url) as work:
        run(work, Phase.CUTOVER)
    further = SPEC.model_copy(update={"ahead": SPEC.ahead + 1})
    with (
        session(database_url, "reader", "BEGIN", "SELECT FROM review_logs") as reader,
        engine(database_url, further) as work,
    ):
        outcome = maintain.maintain(work)
        assert f"pids {reader.info.backend_pid}" in outcome.message
        assert maintain.maintain(work).outcome == "found"
