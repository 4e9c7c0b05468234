"""Each reason to refuse, and that nothing changes where there is one."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from migrations.partition.errors import PlanRefused, Refused
from migrations.partition.phases import Phase
from migrations.partition.runs import plan, run
from migrations.partition.spec import Spec
from tests.migrations.partition import application
from tests.migrations.partition.application import SPEC, engine
from tests.servers import PostgresServer

REASONS: list[tuple[LiteralString, str]] = [
    (
        "CREATE TABLE notes (review uuid CONSTRAINT fk_note REFERENCES review_logs)",
        "foreign key fk_note of public.notes points at it",
    ),
    ("CREATE UNIQUE INDEX once ON review_logs (elapsed_time)", "unique index once lacks"),
    (
        "ALTER TABLE review_logs ADD EXCLUDE USING btree (elapsed_time WITH =)",
        "exclusion constraint",
    ),
    ("INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', NULL)", "1 rows have no"),
    (
        "INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', '0202-01-01')",
        "begins at 0202-01-01 00:00:00, before 1970-01-01",
    ),
    (
        "INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', '20260-01-01')",
        "goes up to 20260-01-01",
    ),
    (
        "INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', 'infinity')",
        "goes up to infinity",
    ),
    ('ALTER TABLE review_logs DROP CONSTRAINT "PK_review_logs"', "no primary key"),
    (
        'ALTER TABLE review_logs DROP CONSTRAINT "PK_review_logs", ADD PRIMARY KEY (id) DEFERRABLE',
        "is deferrable",
    ),
    ("CREATE TABLE child () INHERITS (review_logs)", "other tables inherit from it"),
    (
        "CREATE TABLE parent (LIKE review_logs); ALTER TABLE review_logs INHERIT parent",
        "child or partition of another table",
    ),
    ("ALTER TABLE review_logs SET UNLOGGED", "temporary or unlogged"),
    (
        "ALTER TABLE review_logs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "row security is forced upon its owner",
    ),
    (
        "ALTER TABLE flashcards ENABLE ROW LEVEL SECURITY; CREATE POLICY reviewed ON flashcards"
        ' USING (id IN (SELECT "flashcardId" FROM review_logs))',
        "policy reviewed on table public.flashcards is bound to it",
    ),
    (
        "ALTER TABLE review_logs ADD CHECK (rating > 0) NOT VALID",
        "constraint review_logs_rating_check is not validated",
    ),
    ("ALTER TABLE review_logs ADD CHECK (rating > 0) NO INHERIT", "is NO INHERIT"),
    (
        "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM review_logs",
        "materialized view public.counted reads it",
    ),
    (
        "CREATE VIEW grouped AS SELECT id, rating, count(*) FROM review_logs GROUP BY id",
        "view public.grouped needs its primary key",
    ),
    (
        "CREATE RULE quiet AS ON DELETE TO review_logs DO INSTEAD NOTHING",
        "rule quiet is on it",
    ),
    (
        "CREATE VIEW latest AS SELECT id, state FROM review_logs; CREATE RULE put AS ON INSERT TO"
        " latest DO INSTEAD INSERT INTO review_logs (id, state) VALUES (new.id, new.state)",
        "rule put on view public.latest is bound to it",
    ),
    (
        'ALTER TABLE review_logs DROP CONSTRAINT "PK_review_logs", ADD seq integer DEFAULT 0,'
        " ADD PRIMARY KEY (id, seq)",
        "column seq of the primary key has a name that the log of changes uses",
    ),
    (
        "CREATE FUNCTION newest() RETURNS timestamp LANGUAGE sql"
        " BEGIN ATOMIC SELECT max(reviewed_at) FROM review_logs; END",
        "function public.newest() is bound to it",
    ),
    ("CREATE TABLE copies (old review_logs)", "column old of table public.copies is bound to it"),
    (
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE CONSTRAINT TRIGGER watched AFTER INSERT ON review_logs"
        " FOR EACH ROW EXECUTE FUNCTION watch()",
        "trigger watched is a constraint trigger",
    ),
    (
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER watched AFTER INSERT ON review_logs REFERENCING NEW TABLE AS fresh"
        " FOR EACH ROW EXECUTE FUNCTION watch()",
        "trigger watched is a row trigger with transition tables",
    ),
    ("CREATE TABLE review_logs_retired ()", "public.review_logs_retired exists already"),
    ("CREATE TABLE review_logs_partitioned ()", "public.review_logs_partitioned exists already"),
]


@pytest.fixture
def url(database_url: str) -> str:
    application.create(database_url, rows=100)
    return database_url


@pytest.mark.parametrize(("change", "reason"), REASONS, ids=[reason for _, reason in REASONS])
def test_a_table_that_cannot_be_partitioned_is_refused_and_nothing_changes(
    url: str, change: LiteralString, reason: str
) -> None:
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        connection.execute(change)
        before = application.fingerprint(connection)
        for attempt in (plan, lambda work: run(work, Phase.PREPARE)):
            with pytest.raises(PlanRefused) as refusal:
                attempt(work)
            assert reason in str(refusal.value)
            assert application.fingerprint(connection) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "names nothing, which is no index or constraint"),
        ("IDX_review_logs_actor", "which is no unique constraint or index"),
        ("PK_review_logs", "which is no unique constraint or index"),
        ("whole", "which has reviewed_at already"),
    ],
)
def test_what_cannot_be_widened_is_refused(url: str, name: str, reason: str) -> None:
    spec = SPEC.model_copy(update={"widen": [name]})
    with psycopg.connect(url, autocommit=True) as connection, engine(url, spec) as work:
        connection.execute("CREATE UNIQUE INDEX whole ON review_logs (reviewed_at, id)")
        with pytest.raises(PlanRefused, match=reason):
            plan(work)


def test_too_little_disk_is_refused_where_it_is_known(url: str) -> None:
    with engine(url, disk_free=10_000) as work, pytest.raises(PlanRefused, match="MB of disk"):
        plan(work)
    with engine(url, disk_free=10**9) as work:
        assert "of 1,000 MB free" in plan(work).message
    with engine(url) as work:
        assert "how much is free no SQL tells" in plan(work).message


def test_the_plan_lists_what_depends_on_the_table(
    url: str, postgres_server: PostgresServer
) -> None:
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        connection.execute(
            "CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql AS"
            " 'BEGIN RETURN (SELECT count(*) FROM review_logs); END';"
            "CREATE FUNCTION other() RETURNS text LANGUAGE sql AS $$ SELECT 'my_review_logs_2' $$"
        )
        admin_url = postgres_server.url_for(
            "postgres", connection.info.dbname, postgres_server.password
        )
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute("CREATE PUBLICATION everything FOR ALL TABLES")
            admin.execute("SELECT pg_create_physical_replication_slot('waiting')")
            try:
                message = plan(work).message
            finally:
                admin.execute("SELECT pg_drop_replication_slot('waiting')")
        assert "Depends on it: function public.counted() names it in its text" in message
        assert "other()" not in message
        assert "publication everything publishes all tables" in message
        assert "replication slot waiting (not active)" in message


@pytest.mark.parametrize("type_", ["jsonpath", "pair", "pair[]", "outer_text"])
def test_a_column_that_verify_could_not_compare_is_refused(url: str, type_: LiteralString) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TYPE pair AS (one integer, other json); CREATE DOMAIN inner_text AS json;"
            " CREATE DOMAIN outer_text AS inner_text"
        )
        connection.execute(sql.SQL("ALTER TABLE review_logs ADD path {}").format(sql.SQL(type_)))
        with engine(url) as work, pytest.raises(PlanRefused, match=r"path .* has no hash"):
            run(work, Phase.PREPARE)
        row = connection.execute("SELECT to_regclass('review_logs_partitioned')").fetchone()
        assert row == (None,)


@pytest.mark.parametrize("type_", ["json[]", "point", "present"])
def test_columns_that_are_compared_by_their_text_or_take_no_null_are_no_reason(
    url: str, type_: LiteralString
) -> None:
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        connection.execute("CREATE DOMAIN present AS integer NOT NULL DEFAULT 1")
        connection.execute(sql.SQL("ALTER TABLE review_logs ADD more {}").format(sql.SQL(type_)))
        assert run(work, Phase.VERIFY).verified


def test_all_reasons_are_told_at_once(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        connection.execute("CREATE UNIQUE INDEX once ON review_logs (elapsed_time)")
        connection.execute("INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', NULL)")
        with pytest.raises(PlanRefused) as refusal:
            plan(work)
        assert len(refusal.value.reasons) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"table": "public.nothing"}, "there is no table public.nothing"),
        ({"key": "nothing"}, "it has no column nothing; it has id, flashcardId"),
        ({"key": "rating"}, "rating is smallint: takes a date or a timestamp"),
    ],
)
def test_a_spec_that_does_not_fit_the_table_is_refused(
    url: str, changes: dict[str, str], reason: str
) -> None:
    spec = SPEC.model_copy(update=changes)
    with engine(url, spec) as work, pytest.raises(Refused, match=reason):
        run(work, Phase.PREPARE)


def test_views_and_partitioned_tables_are_refused(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE VIEW v AS SELECT * FROM review_logs")
        connection.execute("CREATE TABLE p (at timestamp) PARTITION BY RANGE (at)")
    for table, reason in (("public.v", "not an ordinary table"), ("public.p", "is partitioned")):
        spec = Spec(table=table, key="at", interval="month")
        with engine(url, spec) as work, pytest.raises(PlanRefused, match=reason):
            plan(work)


def test_somebody_elses_table_is_refused(url: str, postgres_server: PostgresServer) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        owner = connection.info.user
        database = connection.info.dbname
    with psycopg.connect(
        postgres_server.url_for("postgres", database, postgres_server.password), autocommit=True
    ) as admin:
        admin.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
        try:
            admin.execute("GRANT SELECT ON review_logs TO stranger")
            stranger = postgres_server.url_for("stranger", database, "stranger")
            with engine(stranger) as work, pytest.raises(PlanRefused) as refusal:
                run(work, Phase.PREPARE)
            assert f"role stranger does not own it, {owner} does" in str(refusal.value)
            assert "may not create tables in its schema" in str(refusal.value)
            assert "may not create the schema partitioning" in str(refusal.value)
        finally:
            admin.execute("DROP OWNED BY stranger; DROP ROLE stranger")


def test_writers_that_pass_triggers_by_are_refused(
    url: str, postgres_server: PostgresServer
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        database = connection.info.dbname
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        role = sql.Identifier(database)
        admin.execute(sql.SQL("ALTER ROLE {} SET session_replication_role = replica").format(role))
        with engine(url) as work, pytest.raises(PlanRefused, match="session_replication_role"):
            plan(work)


def test_the_plan_tells_what_will_be_different(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection, engine(url) as work:
        connection.execute("CREATE VIEW recent AS SELECT * FROM review_logs")
        connection.execute('DROP INDEX "IDX_review_logs_reviewed_at"')
        connection.execute(
            "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            " CREATE TRIGGER stamped BEFORE INSERT ON review_logs"
            " FOR EACH ROW EXECUTE FUNCTION stamp()"
        )
        message = plan(work).message
        for words in (
            "the primary key becomes (id, reviewed_at)",
            "rows without reviewed_at are refused from cutover on",
            "no index leads with reviewed_at",
            "trigger stamped fires before each row",
            "view public.recent is pointed at the new table",
            "-- CUTOVER",
        ):
            assert words in message
        assert connection.execute("SELECT to_regnamespace('partitioning')").fetchone() == (None,)
