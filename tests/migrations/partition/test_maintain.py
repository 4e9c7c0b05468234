"""Maintenance: months ahead, retention, rows of the default partition, from several hosts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from migrations.partition import bookkeeping, calendar
from migrations.partition.errors import Busy, Refused
from migrations.partition.locks import operator_lock
from migrations.partition.maintain import maintain
from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, UNDOS, run
from migrations.partition.spec import Spec
from tests.migrations.partition import application
from tests.migrations.partition.application import SPEC, Writers, differences, engine

NOW = calendar.current_month()
WITH_DEFAULT = SPEC.model_copy(update={"default_partition": True})


@pytest.fixture
def url(database_url: str) -> str:
    application.create(database_url, rows=600)
    return database_url


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def through(url: str, phase: Phase, spec: Spec = SPEC) -> None:
    with engine(url, spec) as work:
        run(work, phase)


def later(monkeypatch: pytest.MonkeyPatch, months: int) -> date:
    """Let that many months pass; return the month it then is."""
    month = calendar.plus(NOW, months)
    monkeypatch.setattr(calendar, "current_month", lambda: month)
    return month


def partition_name(month: date) -> str:
    return f"review_logs_{month:%Y%m}"


def partitions(connection: psycopg.Connection, table: str = "review_logs") -> list[str]:
    return [
        name
        for (name,) in connection.execute(
            "SELECT relid::regclass::text FROM pg_partition_tree(%s) WHERE isleaf ORDER BY 1",
            [table],
        )
    ]


def looks(connection: psycopg.Connection, name: str) -> list[Any]:
    """Return what partitions have in common: indexes, constraints, settings; no names of months."""
    queries: list[LiteralString] = [
        "SELECT replace(c.relname, %(name)s, 'PARTITION'),"
        " replace(pg_get_indexdef(indexrelid), %(name)s, 'PARTITION'), indisvalid"
        " FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid"
        " WHERE indrelid = %(name)s::regclass ORDER BY 1",
        "SELECT replace(conname, %(name)s, 'PARTITION'), pg_get_constraintdef(oid), convalidated,"
        " conparentid <> 0 FROM pg_constraint WHERE conrelid = %(name)s::regclass ORDER BY 1",
        "SELECT reloptions, relreplident::text, relacl::text, pg_get_userbyid(relowner) FROM"
        " pg_class WHERE oid = %(name)s::regclass",
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attstattarget,"
        " attstorage::text, attcompression::text, pg_get_expr(adbin, adrelid) FROM pg_attribute"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = %(name)s::regclass AND attnum > 0 ORDER BY attnum",
    ]
    return [connection.execute(query, {"name": name}).fetchall() for query in queries]


def insert(connection: psycopg.Connection, month: date, count: int = 1) -> None:
    connection.execute(
        "INSERT INTO review_logs (state, reviewed_at, rating, \"flashcardId\") SELECT '{}',"
        " %s::date + interval '3 days', g, (SELECT id FROM flashcards LIMIT 1)"
        " FROM generate_series(1, %s) AS g",
        [month, count],
    )


def contents(connection: psycopg.Connection) -> tuple[Any, ...] | None:
    return connection.execute(
        "SELECT count(*), sum(hash_record_extended(t, 0)::numeric) FROM review_logs AS t"
    ).fetchone()


def test_before_anything_was_begun_it_is_refused(url: str) -> None:
    with engine(url) as work, pytest.raises(Refused, match="has not begun"):
        maintain(work)


@pytest.mark.parametrize("phase", [Phase.PREPARE, Phase.SYNC, Phase.BACKFILL, Phase.VERIFY])
def test_before_cutover_months_come_to_the_copy_and_the_phases_go_on(
    url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    through(url, phase)
    now = later(monkeypatch, 2)
    with engine(url) as work:
        result = maintain(work)
        assert result.details is not None
        assert result.details["created"] == [
            f"{month:%Y-%m}"
            for month in calendar.through(calendar.plus(now, 1), calendar.plus(now, 2))
        ]
        assert result.details["months_ahead"] == 2
        assert maintain(work).outcome == "found"
        insert(connection, calendar.plus(now, 2))
        before = contents(connection)
        run(work, Phase.RETIRE)
    assert contents(connection) == before
    assert partitions(connection)[-1] == partition_name(calendar.plus(now, 2))


@pytest.mark.parametrize("phase", [Phase.CUTOVER, Phase.RETIRE])
def test_new_partitions_are_like_their_siblings(
    url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    connection.execute("ALTER TABLE review_logs SET (fillfactor = 70, toast_tuple_target = 4000)")
    connection.execute("ALTER TABLE review_logs ALTER state SET STATISTICS 300")
    connection.execute("ALTER TABLE review_logs ALTER state SET COMPRESSION pglz")
    connection.execute("CREATE INDEX failed ON review_logs (lower(rating::text)) WHERE rating = 1")
    through(url, phase)
    with engine(url) as work:
        assert maintain(work).outcome == "found"
        now = later(monkeypatch, 3)
        assert maintain(work).outcome == "done"
        assert maintain(work).outcome == "found"
    there = partitions(connection)
    months = calendar.through(NOW, calendar.plus(now, 2))
    assert there[-len(months) :] == [partition_name(month) for month in months]
    first, newest = partition_name(NOW), partition_name(months[-1])
    assert looks(connection, newest) == looks(connection, first)
    assert looks(connection, newest)[2][0][0] == ["fillfactor=70", "toast_tuple_target=4000"]
    insert(connection, months[-1])
    progress = connection.execute("SELECT months_live, months FROM partitioning.progress")
    assert progress.fetchone() == (len(there), len(there))


def test_a_month_made_after_cutover_survives_rollback(
    url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(url, Phase.CUTOVER)
    now = later(monkeypatch, 2)
    with engine(url) as work:
        maintain(work)
        insert(connection, calendar.plus(now, 2))
        assert not differences(connection, "review_logs", "review_logs_retired")
        UNDOS[Phase.CUTOVER](work)
        insert(connection, calendar.plus(now, 2))
        connection.execute("UPDATE review_logs SET rating = 4 WHERE rating < 4")
        assert not differences(connection, "review_logs", "review_logs_partitioned")
        assert PHASES[Phase.VERIFY](work).verified
        run(work, Phase.RETIRE)


@pytest.mark.parametrize("phase", [Phase.CUTOVER, Phase.RETIRE])
def test_rows_of_the_default_partition_go_to_months_of_their_own(
    url: str, connection: psycopg.Connection, phase: Phase
) -> None:
    connection.execute(
        "CREATE TABLE noted (what text);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO noted VALUES (TG_OP); RETURN coalesce(NEW, OLD); END $$;"
        "CREATE TRIGGER noting BEFORE DELETE OR INSERT ON review_logs"
        " FOR EACH ROW EXECUTE FUNCTION note()"
    )
    through(url, phase, WITH_DEFAULT)
    near, past = calendar.plus(NOW, 5), calendar.plus(NOW, -60)
    insert(connection, near, 20)
    insert(connection, past, 3)
    insert(connection, date(2090, 1, 1), 2)
    before = contents(connection)
    connection.execute("TRUNCATE noted")
    with engine(url, WITH_DEFAULT) as work:
        result = maintain(work)
        assert result.details is not None
        assert result.details["moved_rows"] == 23
        assert result.details["created"] == [f"{past:%Y-%m}", f"{near:%Y-%m}"]
        assert "2 rows in review_logs_default are of 2090-01, outside" in result.message
        assert maintain(work).outcome == "found"
    assert contents(connection) == before
    assert connection.execute("SELECT count(*) FROM noted").fetchone() == (0,)
    counts = connection.execute(
        "SELECT tableoid::regclass::text, count(*) FROM review_logs WHERE state = '{}'"
        " GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert counts == [
        (partition_name(past), 3), (partition_name(near), 20), ("review_logs_default", 2),
    ]  # fmt: skip
    assert looks(connection, partition_name(near)) == looks(connection, partition_name(NOW))
    # The application's triggers still fire, and both tables are still one.
    insert(connection, near)
    connection.execute("DELETE FROM review_logs WHERE reviewed_at >= '2090-01-01'")
    fired = connection.execute("SELECT what, count(*) FROM noted GROUP BY 1 ORDER BY 1").fetchall()
    assert fired == [("DELETE", 2), ("INSERT", 1)]
    if phase is Phase.CUTOVER:
        assert not differences(connection, "review_logs", "review_logs_retired")


def test_the_next_month_is_made_although_its_rows_lie_in_the_default_partition(
    url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(url, Phase.RETIRE, WITH_DEFAULT)
    ahead = calendar.plus(NOW, 3)
    insert(connection, ahead, 7)
    later(monkeypatch, 1)
    with engine(url, WITH_DEFAULT) as work:
        result = maintain(work)
    assert result.details is not None
    assert (result.details["moved_rows"], result.details["months_ahead"]) == (7, 2)
    assert connection.execute(
        "SELECT default_rows, months_ahead > 0 FROM partitioning.progress"
    ).fetchone() == (0, True)


def test_more_rows_than_may_be_moved_at_once_are_left_and_told_after_all_else(
    url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    through(url, Phase.RETIRE, WITH_DEFAULT)
    far = calendar.plus(NOW, 6)
    insert(connection, far, 11)
    later(monkeypatch, 1)
    with (
        engine(url, WITH_DEFAULT, most_rows=10) as work,
        pytest.raises(Refused, match=f"more than 10 rows of {far:%Y-%m}.*--most-rows"),
    ):
        maintain(work)
    assert partition_name(calendar.plus(NOW, 3)) in partitions(connection)
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml', default_partition=True)}"
    code, result, _ = application.run(url, "maintain", spec, "--most-rows=10")
    assert (code, result["outcome"]) == (1, "refused")
    code, result, _ = application.run(url, "maintain", spec)
    assert (code, result["moved_rows"], result["created"]) == (0, 11, [f"{far:%Y-%m}"])


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize(
    ("changes", "there"),
    [
        ({}, "review_logs_{}_archived"),
        ({"archive_schema": "attic"}, "attic.review_logs_{}"),
        ({"expired": "drop"}, None),
    ],
)
def test_months_older_than_the_retention_are_archived_or_dropped(
    url: str,
    connection: psycopg.Connection,
    changes: dict[str, str],
    there: str | None,
    default: bool,
) -> None:
    values = {"retention": 2, "default_partition": default, **changes}
    spec = SPEC.model_copy(update=values)
    through(url, Phase.RETIRE, spec)
    old = partitions(connection)[: -(3 + SPEC.ahead) - default]
    assert len(old) >= 2
    counts = {
        name: connection.execute(f'SELECT count(*) FROM "{name}"'.encode()).fetchone()
        for name in old
    }
    with engine(url, spec) as work:
        result = maintain(work)
        assert result.details is not None
        assert result.details["archived" if there else "dropped"] == old
        assert maintain(work).outcome == "found"
    left = partitions(connection)
    assert left[0] == partition_name(calendar.plus(NOW, -2))
    for name in old:
        assert connection.execute("SELECT to_regclass(%s)", [name]).fetchone() == (None,)
        if there:
            archived = there.format(name[-6:])
            found = connection.execute(f"SELECT count(*) FROM {archived}".encode()).fetchone()
            assert found == counts[name]
    rows = connection.execute(
        "SELECT count(*), count(done_at), count(archived_as) FROM partitioning.expired"
    ).fetchone()
    assert rows == (len(old), len(old), len(old) if there else 0)
    months = connection.execute("SELECT months FROM partitioning.progress").fetchone()
    assert months == (len(left) - default,)


def test_retention_waits_until_the_old_table_is_gone(
    url: str, connection: psycopg.Connection
) -> None:
    spec = SPEC.model_copy(update={"retention": 1})
    for phase in (Phase.VERIFY, Phase.CUTOVER):
        through(url, phase, spec)
        before = contents(connection)
        with engine(url, spec) as work:
            result = maintain(work)
        assert "retention begins after" in result.message
        assert contents(connection) == before
    assert not differences(connection, "review_logs", "review_logs_retired")


def test_a_detach_that_was_cut_short_is_finished_by_the_next_run(
    url: str, connection: psycopg.Connection
) -> None:
    spec = SPEC.model_copy(update={"retention": 3})
    through(url, Phase.RETIRE, spec)
    oldest = partitions(connection)[0]
    with psycopg.connect(url) as reader, engine(url, spec, attempts=2) as work:
        reader.execute("SELECT count(*) FROM review_logs")
        with pytest.raises(Refused, match=f"detach {oldest}: a lock could not be had"):
            maintain(work)
        pending = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhdetachpending"
        assert connection.execute(pending).fetchall() == [(oldest,)]
        # The application goes on meanwhile.
        insert(connection, NOW)
        reader.rollback()
        result = maintain(work)
        assert result.details is not None
        assert result.details["archived"][0] == oldest
        assert connection.execute(pending).fetchall() == []
        assert connection.execute("SELECT to_regclass(%s)", [oldest]).fetchone() == (None,)


def test_a_table_that_was_detached_by_hand_is_left_alone(
    url: str, connection: psycopg.Connection
) -> None:
    spec = SPEC.model_copy(update={"retention": 2, "expired": "drop"})
    through(url, Phase.RETIRE, spec)
    oldest = partitions(connection)[0]
    connection.execute(f"ALTER TABLE review_logs DETACH PARTITION {oldest}".encode())
    with engine(url, spec) as work:
        result = maintain(work)
        assert f"{oldest} is no longer there" in result.message
    assert connection.execute("SELECT to_regclass(%s)::text", [oldest]).fetchone() == (oldest,)


def test_an_archive_that_is_in_the_way_is_refused_before_anything_is_detached(
    url: str, connection: psycopg.Connection
) -> None:
    spec = SPEC.model_copy(update={"retention": 2})
    through(url, Phase.RETIRE, spec)
    before = partitions(connection)
    connection.execute(f"CREATE TABLE {before[1]}_archived ()".encode())
    with engine(url, spec) as work, pytest.raises(Refused, match=f"{before[1]}_archived exists"):
        maintain(work)
    assert partitions(connection) == before


def test_what_was_made_by_hand_is_taken_into_the_books(
    url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(url, Phase.RETIRE)
    month = calendar.plus(NOW, 3)
    connection.execute(
        f"CREATE TABLE by_hand PARTITION OF review_logs FOR VALUES FROM ('{month}')"
        f" TO ('{calendar.plus(month, 1)}')".encode()
    )
    in_the_way = partition_name(calendar.plus(NOW, 4))
    connection.execute(f"CREATE TABLE {in_the_way} ()".encode())
    later(monkeypatch, 2)
    with engine(url) as work, pytest.raises(Refused, match=f"{in_the_way} exists and is no part"):
        maintain(work)
    names = {row.partition_name for row in bookkeeping.months(connection, 1)}
    assert "by_hand" in names
    connection.execute(f"DROP TABLE {in_the_way}".encode())
    with engine(url) as work:
        assert maintain(work).outcome == "done"


def test_of_several_hosts_one_does_it_and_the_others_say_who(url: str, tmp_path: Path) -> None:
    through(url, Phase.RETIRE)
    spec = f"--spec={application.write_spec(tmp_path / 'spec.toml')}"
    with engine(url) as work, operator_lock(work):
        code, result, _ = application.run(url, "maintain", spec)
        assert (code, result["outcome"]) == (0, "found")
        assert (
            f"somebody else works on public.review_logs: pid {work.connection.info.backend_pid}"
            in (result["message"])
        )
        with engine(url) as other, pytest.raises(Busy), operator_lock(other, 0):
            pass
    code, result, _ = application.run(url, "maintain", spec)
    assert (code, result["months_ahead"]) == (0, 2)


@pytest.mark.slow
def test_writers_see_no_error_while_months_come_and_go(
    url: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = WITH_DEFAULT.model_copy(update={"ahead": 1})
    # Not in the journal: when this month is archived, both agree.
    insert(connection, calendar.plus(NOW, -30))
    through(url, Phase.CUTOVER, spec)
    with Writers(url, threads=3, seed=5) as writers, engine(url, spec) as work:
        writers.may_be_partitioned = True
        writers.wait_for(100)
        for step in range(3):
            later(monkeypatch, step)
            maintain(work)
            writers.wait_for(60)
        assert not writers.errors
        PHASES[Phase.RETIRE](work)
        keeping = engine(url, spec.model_copy(update={"retention": 24}))
        with keeping as retaining:
            assert len(maintain(retaining).as_json()["archived"]) >= 6
        writers.wait_for(60)
    assert writers.errors == []
    assert not differences(connection, "review_logs", "journal")
