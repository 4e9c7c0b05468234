"""Reasons to refuse that take a superuser, another spec or a later phase: nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from migrations.partition import calendar
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import PlanRefused, Refused
from migrations.partition.phases import Phase
from migrations.partition.runs import PHASES, UNDOS, plan, run
from migrations.partition.spec import Spec
from tests.migrations.partition import application
from tests.migrations.partition.application import SPEC, engine
from tests.servers import PostgresServer

OWNER: list[tuple[LiteralString, str]] = [
    (
        "CREATE UNIQUE INDEX once ON review_logs (reviewed_at, (rating + 1))",
        "unique index once is on an expression",
    ),
    ("REVOKE SELECT ON review_logs FROM CURRENT_USER", "its rows may not be read"),
    (
        "CREATE PUBLICATION picked FOR TABLE review_logs WHERE (rating > 1)",
        "publication picked filters its rows or columns",
    ),
    (
        "CREATE PUBLICATION picked FOR TABLE review_logs (id, rating)",
        "publication picked filters its rows or columns",
    ),
    ("CREATE TABLE review_logs_default ()", "public.review_logs_default exists already"),
]
SUPERUSER: list[tuple[LiteralString, str]] = [
    (
        "CREATE ACCESS METHOD heap_2 TYPE TABLE HANDLER heap_tableam_handler;"
        " ALTER TABLE review_logs SET ACCESS METHOD heap_2",
        "its access method is heap_2, not heap",
    ),
    ("CREATE VIEW v AS SELECT id FROM review_logs", "view public.v belongs to postgres"),
    ("CREATE PUBLICATION theirs FOR TABLE review_logs", "publication theirs belongs to postgres"),
    (
        "DO $$ BEGIN EXECUTE format('REVOKE TEMP ON DATABASE %%I FROM PUBLIC, %%1$I',"
        " current_database()); END $$",
        "may not create temporary tables",
    ),
    (
        "DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %%I FROM %%1$I',"
        " current_database()); END $$",
        "may not create the schema partitioning",
    ),
    (
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC, pg_database_owner",
        "may not create tables in its schema",
    ),
    ("CREATE SCHEMA partitioning", "may not create tables in the schema partitioning"),
    (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET session_replication_role = replica',"
        " current_database()); END $$",
        "session_replication_role is set for all roles",
    ),
]


@pytest.fixture
def url(database_url: str) -> str:
    application.create(database_url, rows=100, days=60)
    return database_url


@pytest.fixture
def admin(url: str, postgres_server: PostgresServer) -> Iterator[psycopg.Connection]:
    """A superuser in the test's database."""
    with psycopg.connect(url) as connection:
        database = connection.info.dbname
    there = postgres_server.url_for("postgres", database, postgres_server.password)
    with psycopg.connect(there, autocommit=True) as connection:
        yield connection


def expect_refusal(
    admin: psycopg.Connection, url: str, reason: str, spec: Spec = SPEC, kind: Any = PlanRefused
) -> None:
    """Assert that plan and prepare refuse for the reason, and that nothing changes."""
    before = application.fingerprint(admin)
    attempts: list[Callable[[Engine], Outcome]] = [plan, PHASES[Phase.PREPARE]]
    for attempt in attempts:
        with engine(url, spec) as work, pytest.raises(kind) as refusal:
            attempt(work)
        assert reason in str(refusal.value)
        assert application.fingerprint(admin) == before


@pytest.mark.parametrize(("change", "reason"), OWNER)
def test_what_the_owner_did_is_refused_and_nothing_changes(
    url: str, admin: psycopg.Connection, change: LiteralString, reason: str
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(change)
    expect_refusal(admin, url, reason)


@pytest.mark.parametrize(("change", "reason"), SUPERUSER)
def test_what_an_administrator_did_is_refused_and_nothing_changes(
    url: str, admin: psycopg.Connection, change: LiteralString, reason: str
) -> None:
    admin.execute(change.replace("%%", "%").encode())
    expect_refusal(admin, url, reason)


def test_a_partitions_name_that_is_taken_is_refused_and_nothing_changes(
    url: str, admin: psycopg.Connection
) -> None:
    name = f"review_logs_{calendar.current_month():%Y%m}"
    admin.execute(sql.SQL("CREATE TABLE {} ()").format(sql.Identifier(name)))
    expect_refusal(admin, url, f"public.{name} exists already")


def test_too_many_partitions_are_refused_and_nothing_changes(
    url: str, admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrations.partition.plan.MOST_MONTHS", 3)
    expect_refusal(admin, url, "partitions, more than 3")


def test_a_table_that_a_subscription_writes_to_is_refused_and_nothing_changes(
    url: str, admin: psycopg.Connection
) -> None:
    admin.execute(
        "CREATE SUBSCRIPTION fed CONNECTION 'host=127.0.0.1' PUBLICATION theirs"
        " WITH (connect = false, slot_name = NONE)"
    )
    try:
        # As refreshing it from a publisher would.
        admin.execute("SET allow_system_table_mods = on")
        admin.execute(
            "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)"
            " SELECT oid, 'review_logs'::regclass, 'r' FROM pg_subscription WHERE subname = 'fed'"
        )
        expect_refusal(admin, url, "a subscription writes to it")
    finally:
        admin.execute("DROP SUBSCRIPTION fed")


def test_bookkeeping_of_another_role_is_refused_and_nothing_changes(
    url: str, admin: psycopg.Connection
) -> None:
    admin.execute("CREATE SCHEMA partitioning CREATE TABLE months (month date)")
    expect_refusal(admin, url, "may not use the schema partitioning", kind=Refused)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"table": "public.nothing"}, "there is no table public.nothing"),
        ({"table": "nowhere.review_logs"}, "there is no table nowhere.review_logs"),
        ({"table": "public.some_view"}, "it is not an ordinary table"),
        ({"table": "public.parts"}, "it is partitioned already"),
        ({"key": "nothing"}, "it has no column nothing"),
        ({"key": "rating"}, "rating is smallint: takes a date or a timestamp"),
        ({"key": "reviewed_on"}, "reviewed_on is a generated column"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused_and_nothing_changes(
    url: str, admin: psycopg.Connection, changes: dict[str, str], reason: str
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE parts (at timestamp) PARTITION BY RANGE (at)")
        connection.execute("CREATE VIEW some_view AS SELECT * FROM actors")
        connection.execute(
            "ALTER TABLE review_logs ADD COLUMN reviewed_on date"
            " GENERATED ALWAYS AS (reviewed_at::date) STORED"
        )
    expect_refusal(admin, url, reason, SPEC.model_copy(update=changes), Refused)


LATER: list[tuple[Phase, LiteralString, Callable[[Engine], Outcome], str]] = [
    *(
        (done, "ALTER TABLE review_logs ADD COLUMN remark text", PHASES[phase], "(remark)")
        for done, phase in (
            (Phase.PREPARE, Phase.SYNC),
            (Phase.SYNC, Phase.BACKFILL),
            (Phase.BACKFILL, Phase.VERIFY),
            (Phase.VERIFY, Phase.CUTOVER),
        )
    ),
    (
        Phase.VERIFY,
        "CREATE INDEX fresh ON review_logs (rating)",
        PHASES[Phase.CUTOVER],
        "index fresh of public.review_logs was created since prepare",
    ),
    (
        Phase.VERIFY,
        "INSERT INTO review_logs (state, reviewed_at) VALUES ('{}', NULL)",
        PHASES[Phase.CUTOVER],
        "missing or out of range",
    ),
    (
        Phase.VERIFY,
        "ALTER TABLE review_logs_partitioned RENAME TO elsewhere",
        PHASES[Phase.CUTOVER],
        "public.review_logs_partitioned is gone",
    ),
    (
        Phase.CUTOVER,
        "ALTER TABLE review_logs_retired RENAME TO elsewhere",
        UNDOS[Phase.CUTOVER],
        "public.review_logs_retired is gone",
    ),
    (
        Phase.CUTOVER,
        "ALTER TABLE review_logs ADD COLUMN remark text",
        UNDOS[Phase.CUTOVER],
        "(remark)",
    ),
    (
        Phase.CUTOVER,
        "DELETE FROM review_logs_retired WHERE elapsed_time = 7",
        PHASES[Phase.RETIRE],
        "differs from public.review_logs; nothing was dropped",
    ),
    (Phase.RETIRE, "SELECT 1", UNDOS[Phase.CUTOVER], "no way back"),
    (Phase.RETIRE, "SELECT 1", UNDOS[Phase.RETIRE], "cannot be undone"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("done", "change", "attempt", "reason"), LATER)
def test_what_changed_since_is_refused_by_later_phases_and_nothing_changes(
    url: str, done: Phase, change: LiteralString, attempt: Callable[[Engine], Outcome], reason: str
) -> None:
    with engine(url, attempts=3) as work, psycopg.connect(url, autocommit=True) as connection:
        run(work, done)
        connection.execute(change)
        before = application.fingerprint(connection)
        with pytest.raises(Refused) as refusal:
            attempt(work)
        assert reason in str(refusal.value)
        assert application.fingerprint(connection) == before
