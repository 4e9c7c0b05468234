"""What is changed while the phases go on: definitions, privileges, rows in each other's way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from migrations.partition import backfill, calendar
from migrations.partition.errors import Refused
from migrations.partition.maintain import maintain
from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, UNDOS, run
from migrations.partition.spec import Spec
from tests.migrations.partition.application import differences, engine
from tests.servers import PostgresServer

SPEC = Spec(table="public.readings", key="at", interval="month", ahead=1)
TABLE: LiteralString = """
CREATE TABLE readings (
    id {type} PRIMARY KEY, {more} value integer, at timestamp NOT NULL DEFAULT now()
);
INSERT INTO readings (id, value, at)
SELECT g, g, now() - g * interval '1 day' FROM generate_series(1, 90) AS g
"""


_BACK: dict[str, tuple[LiteralString, ...]] = {
    "numeric": ("UPDATE readings SET id = trunc(id)",),
    "bpchar": ("UPDATE readings SET id = rtrim(id)",),
}
"""What makes the change that a test has made once a change again."""


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def create(
    connection: psycopg.Connection, type_: LiteralString = "integer", more: LiteralString = ""
) -> None:
    connection.execute(sql.SQL(TABLE).format(type=sql.SQL(type_), more=sql.SQL(more)))


@contextmanager
def roles(
    server: PostgresServer, connection: psycopg.Connection, *names: LiteralString
) -> Iterator[psycopg.Connection]:
    """Make roles, give a superuser's connection to the test's database, and take all away again."""
    address = server.url_for("postgres", connection.info.dbname, server.password)
    with psycopg.connect(address, autocommit=True) as admin:
        for name in names:
            admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        try:
            yield admin
        finally:
            for name in names:
                admin.execute(
                    sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name))
                )


def through(url: str, phase: Phase, spec: Spec = SPEC) -> None:
    with engine(url, spec) as work:
        run(work, phase)


def undo(url: str, phase: Phase, spec: Spec = SPEC) -> None:
    with engine(url, spec) as work:
        UNDOS[phase](work)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE readings ADD CONSTRAINT few CHECK (value < 1000)", "constraint few"),
        ("ALTER TABLE readings ALTER value SET DEFAULT 7", "default of value"),
        ("ALTER TABLE readings ALTER value SET NOT NULL", "NOT NULL of value"),
        ("ALTER TABLE readings ALTER id ADD GENERATED ALWAYS AS IDENTITY", "identity of id"),
        ("CREATE TABLE notes (reading integer REFERENCES readings)", "points at it"),
        ("CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM readings", "reads it"),
        (
            "CREATE TABLE letters (id integer); CREATE RULE noted AS ON INSERT TO letters"
            " DO ALSO INSERT INTO readings (id) VALUES (new.id)",
            "rule noted on table public.letters is bound to it",
        ),
    ],
)
def test_what_came_to_the_table_since_prepare_keeps_it_from_being_cut_over(
    connection: psycopg.Connection, database_url: str, change: LiteralString, told: str
) -> None:
    create(connection)
    through(database_url, Phase.VERIFY)
    connection.execute(change)
    with engine(database_url, SPEC) as work, pytest.raises(Refused, match=told):
        PHASES[Phase.CUTOVER](work)
    # In use as before, and in step.
    connection.execute("UPDATE readings SET value = value + 1")
    assert not differences(connection, "readings", "readings_partitioned")


def test_privileges_are_those_of_the_moment_of_each_swap(
    connection: psycopg.Connection, database_url: str, postgres_server: PostgresServer
) -> None:
    def may() -> set[str]:
        rows = connection.execute(
            "SELECT privilege FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS"
            " privilege WHERE has_table_privilege('test_reader', 'readings', privilege)"
        )
        return {row[0] for row in rows}

    with roles(postgres_server, connection, "test_reader"):
        create(connection)
        connection.execute("GRANT SELECT, DELETE ON readings TO test_reader")
        # A copy is a new table, which these would open.
        connection.execute("ALTER DEFAULT PRIVILEGES GRANT UPDATE ON TABLES TO test_reader")
        through(database_url, Phase.VERIFY)
        connection.execute("REVOKE ALL ON readings FROM test_reader")
        connection.execute("GRANT INSERT ON readings TO test_reader")
        through(database_url, Phase.CUTOVER)
        assert may() == {"INSERT"}
        readable = connection.execute(
            "SELECT relid::text FROM pg_partition_tree('readings') WHERE isleaf"
            " AND has_table_privilege('test_reader', relid, 'SELECT, UPDATE')"
        ).fetchall()
        assert readable == []
        connection.execute("REVOKE INSERT ON readings FROM test_reader")
        connection.execute("GRANT SELECT ON readings TO test_reader")
        undo(database_url, Phase.CUTOVER)
        assert may() == {"SELECT"}


def test_a_month_made_after_row_security_came_is_read_by_nobody_past_it(
    connection: psycopg.Connection, database_url: str
) -> None:
    create(connection)
    connection.execute("GRANT SELECT ON readings TO PUBLIC")
    through(database_url, Phase.RETIRE)
    connection.execute("ALTER TABLE readings ENABLE ROW LEVEL SECURITY")
    month = calendar.plus(calendar.current_month(), 2)
    with engine(database_url, SPEC.model_copy(update={"ahead": 2})) as work:
        assert maintain(work).outcome == "done"
    row = connection.execute(
        "SELECT relacl::text FROM pg_class WHERE relname = %s", [f"readings_{month:%Y%m}"]
    ).fetchone()
    assert row is not None
    assert "=r/" not in (row[0] or "")


def test_months_are_added_to_a_table_whose_constraints_were_widened(
    connection: psycopg.Connection, database_url: str
) -> None:
    create(connection, more="code integer CONSTRAINT once UNIQUE,")
    connection.execute("CREATE UNIQUE INDEX once_too ON readings (code DESC)")
    spec = SPEC.model_copy(update={"widen": ["once", "once_too"]})
    through(database_url, Phase.RETIRE, spec)
    with engine(database_url, spec.model_copy(update={"ahead": 2})) as work:
        assert maintain(work).outcome == "done"
    month = calendar.plus(calendar.current_month(), 2)
    definitions = connection.execute(
        "SELECT split_part(indexdef, ' USING ', 2) FROM pg_indexes WHERE tablename = %s ORDER BY 1",
        [f"readings_{month:%Y%m}"],
    ).fetchall()
    assert definitions == [
        ("btree (code DESC, at)",),
        ("btree (code, at)",),
        ("btree (id, at)",),
    ]


@pytest.mark.parametrize(
    ("type_", "more", "change", "column"),
    [
        ("numeric", "", "UPDATE readings SET id = 5.00 WHERE id = 5", "id"),
        ("bpchar", "", "UPDATE readings SET id = '5   ' WHERE id = '5'", "id"),
        ("numeric", "", "UPDATE readings SET id = id + 0.00 WHERE id < 9", "id"),
        (
            "integer",
            "number bigint GENERATED ALWAYS AS IDENTITY,",
            "UPDATE readings SET number = DEFAULT WHERE id = 5",
            "number",
        ),
        (
            "integer",
            "number bigint GENERATED ALWAYS AS IDENTITY,",
            "UPDATE readings SET number = DEFAULT WHERE id < 9",
            "number",
        ),
    ],
)
def test_updates_that_look_like_none_are_mirrored_both_ways(
    connection: psycopg.Connection,
    database_url: str,
    type_: LiteralString,
    more: LiteralString,
    change: LiteralString,
    column: LiteralString,
) -> None:
    create(connection, type_, more)

    def texts(table: LiteralString) -> list[Any]:
        return connection.execute(
            sql.SQL("SELECT value, {}::text FROM {} ORDER BY 1").format(
                sql.Identifier(column), sql.Identifier(table)
            )
        ).fetchall()

    through(database_url, Phase.VERIFY)
    connection.execute(change)
    assert texts("readings") == texts("readings_partitioned")
    through(database_url, Phase.CUTOVER)
    connection.execute("UPDATE readings SET value = value + 1")
    for statement in (*_BACK.get(type_, ()), change):
        connection.execute(statement)
    assert texts("readings") == texts("readings_retired")


def ranked(connection: psycopg.Connection, rows: int) -> None:
    connection.execute(
        sql.SQL(
            "CREATE TABLE readings (id integer PRIMARY KEY, rank integer, at date NOT NULL,"
            " CONSTRAINT places UNIQUE (at, rank)); INSERT INTO readings"
            " SELECT g, g, current_date FROM generate_series({}, 1, -1) AS g"
        ).format(rows)
    )


def once_attached(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Do something when the copy of the present month has its indexes, and is not live yet."""
    genuine = backfill._attach
    done: list[bool] = []

    def attach(*arguments: Any) -> None:
        genuine(*arguments)
        if not done and arguments[2] == calendar.current_month():
            done.append(True)
            do()

    monkeypatch.setattr(backfill, "_attach", attach)


def test_rows_that_break_an_index_only_the_copy_has_are_told_and_block_nobody(
    connection: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked(connection, 100)
    through(database_url, Phase.SYNC)

    def change() -> None:
        connection.execute("ALTER TABLE readings DROP CONSTRAINT places")
        connection.execute("UPDATE readings SET rank = 7 WHERE id IN (7, 8)")

    once_attached(monkeypatch, change)
    with pytest.raises(Refused, match="break a unique index that only the copy still has"):
        through(database_url, Phase.BACKFILL)
    connection.execute("UPDATE readings SET rank = 7 WHERE id = 9")


def test_a_unique_index_that_was_dropped_since_prepare_keeps_it_from_being_cut_over(
    connection: psycopg.Connection, database_url: str
) -> None:
    ranked(connection, 100)
    through(database_url, Phase.VERIFY)
    connection.execute("ALTER TABLE readings DROP CONSTRAINT places")
    with pytest.raises(Refused, match=r"a unique index of .* was dropped"):
        through(database_url, Phase.CUTOVER)


def test_privileges_that_were_handed_on_do_not_keep_a_table_from_being_rolled_back(
    connection: psycopg.Connection, database_url: str, postgres_server: PostgresServer
) -> None:
    with roles(postgres_server, connection, "test_alice", "test_bob") as admin:
        create(connection)
        connection.execute("GRANT SELECT ON readings TO test_alice WITH GRANT OPTION")
        admin.execute("SET ROLE test_alice; GRANT SELECT ON readings TO test_bob; RESET ROLE")
        through(database_url, Phase.CUTOVER)
        connection.execute("GRANT INSERT ON readings TO test_bob")
        undo(database_url, Phase.CUTOVER)
        row = connection.execute(
            "SELECT has_table_privilege('test_bob', 'readings', 'SELECT'),"
            " has_table_privilege('test_bob', 'readings', 'INSERT'),"
            " has_table_privilege('test_alice', 'readings', 'SELECT WITH GRANT OPTION')"
        ).fetchone()
        assert row == (True, True, True)


def test_rows_in_the_way_of_one_another_are_drained_all_the_same(
    connection: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked(connection, 12_000)
    through(database_url, Phase.SYNC)
    changed: list[int] = []
    # Every row takes the place of another: more than one batch.
    change = "UPDATE readings SET rank = rank + 1"
    once_attached(monkeypatch, lambda: changed.append(connection.execute(change).rowcount))
    through(database_url, Phase.BACKFILL)
    assert changed == [12_000]
    assert not differences(connection, "readings", "readings_partitioned")


def test_rows_of_the_default_partition_are_rolled_back_too(
    connection: psycopg.Connection, database_url: str
) -> None:
    create(connection)
    spec = SPEC.model_copy(update={"default_partition": True})
    through(database_url, Phase.CUTOVER, spec)
    far = calendar.plus(calendar.current_month(), 4)
    connection.execute("INSERT INTO readings VALUES (1001, 1, %s), (1002, 1, %s)", [far, far])
    undo(database_url, Phase.CUTOVER, spec)
    assert connection.execute("SELECT FROM readings WHERE id > 1000").rowcount == 2
    connection.execute("UPDATE readings SET value = 2 WHERE id = 1001")
    connection.execute("DELETE FROM readings WHERE id = 1002")
    through(database_url, Phase.CUTOVER, spec)
    assert connection.execute("SELECT value FROM readings WHERE id > 1000").fetchall() == [(2,)]
    assert not differences(connection, "readings", "readings_retired")
    connection.execute("INSERT INTO readings VALUES (1003, 1, %s)", [calendar.plus(far, 1)])
    for phase in (Phase.CUTOVER, Phase.VERIFY, Phase.BACKFILL, Phase.SYNC):
        undo(database_url, phase, spec)
    assert connection.execute("SELECT FROM readings_partitioned").rowcount == 0


def test_settings_of_the_role_do_not_end_or_mislead_the_phases(
    connection: psycopg.Connection, database_url: str, postgres_server: PostgresServer
) -> None:
    create(connection)
    connection.execute(
        "CREATE FUNCTION slow(integer) RETURNS integer IMMUTABLE LANGUAGE sql"
        " AS 'SELECT $1 + (pg_sleep(0.005) IS NULL)::integer'"
    )
    connection.execute("CREATE INDEX ON readings (slow(value))")
    name = sql.Identifier(connection.info.user)
    for setting in ("statement_timeout = '100ms'", "DateStyle = 'SQL, DMY'"):
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {}").format(name, sql.SQL(setting))  # pyright: ignore[reportArgumentType]
        )
    through(database_url, Phase.RETIRE)
    with engine(database_url, SPEC) as work:
        assert maintain(work).outcome == "found"
