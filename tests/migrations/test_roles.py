"""The roles of the steps and the workers: what they may do, and what they may not."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import errors, sql

from connections import iam
from connections.authentication import parameters
from migrations.roles import (
    STEPS,
    WORKERS,
    Roles,
    RolesError,
    make_roles,
    roles_sql,
)
from tests.migrations.databases import TYPEORM
from tests.rds import (
    PodIdentity,
    Rds,
    SecretsManager,
    running_rds,
)
from tests.servers import PostgresServer
from tests.workers.programs import programs_on, wait_until
from workers.complexity_calculation import calculate
from workers.complexity_definition import Definition
from workers.complexity_state import find_sources, is_tracked
from workers.database import Database

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rds() -> Iterator[Rds]:
    with running_rds() as rds:
        yield rds


@pytest.fixture
def database(rds: Rds) -> Iterator[str]:
    """The name of a new database of the master role, as RDS makes it; roles made for it go, too."""
    name = f"platform_{secrets.token_hex(4)}"
    with psycopg.connect(rds.server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER master").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in (STEPS, WORKERS, "application"):
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


@pytest.fixture
def master_url(rds: Rds, database: str) -> str:
    return rds.url("master", database, rds.master_password)


@pytest.fixture
def pod(rds: Rds, tmp_path: Path) -> Iterator[PodIdentity]:
    with PodIdentity(rds.keys, tmp_path) as pod:
        yield pod


@pytest.fixture
def secret(rds: Rds) -> Iterator[SecretsManager]:
    login = {"username": "master", "password": rds.master_password}
    with SecretsManager(json.dumps(login)) as secret:
        yield secret


def command(
    url: str, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, **environment},
        capture_output=True,
        text=True,
    )


def attributes(connection: psycopg.Connection) -> list[Any]:
    return connection.execute(
        "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,"
        " rolcanlogin, pg_has_role(oid, 'rds_iam', 'USAGE')"
        " FROM pg_roles WHERE rolname = ANY (%s) ORDER BY 1",
        [[STEPS, WORKERS]],
    ).fetchall()


def test_the_master_makes_both_roles_by_its_secret_and_again_nothing(
    rds: Rds, database: str, pod: PodIdentity, secret: SecretsManager
) -> None:
    url = rds.url(STEPS, database)
    environment = {**pod.environment, **secret.environment, "DATABASE_AUTHENTICATION": "aws-iam"}
    first = command(url, environment, "-m", "migrations", "roles", "--iam", "required", "--json")
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout.splitlines()[-1])
    assert result["outcome"] == "changed"
    assert f"created role {STEPS}" in result["changes"]
    assert f"role {STEPS} owns the database {database}" in result["changes"]
    assert result["notes"] == []
    assert len(secret.readers) == 1
    again = command(url, environment, "-m", "migrations", "roles", "--iam", "required", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["outcome"] == "current", again.stdout
    for run in (first, again):
        assert rds.master_password not in run.stdout + run.stderr
    # The master gets in by its password still, for it is in no role that RDS asks a token of.
    with psycopg.connect(rds.url("master", database, rds.master_password)) as connection:
        expected = (False, False, False, False, False, True, True)
        assert attributes(connection) == [(STEPS, *expected), (WORKERS, *expected)]
        assert connection.execute(
            "SELECT pg_has_role('rds_iam', 'USAGE'), pg_has_role(%s, 'USAGE')", [STEPS]
        ).fetchone() == (False, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json with hunter2", "is no log-in: takes a JSON object with username and password"),
        ('["hunter2"]', "is no log-in"),
        ('{"username": "master", "password": "hunter2"}', "password authentication failed"),
    ],
)
def test_a_secret_that_lets_nobody_in_is_said_without_showing_it(
    rds: Rds, database: str, pod: PodIdentity, text: str, message: str
) -> None:
    with SecretsManager(text) as secret:
        environment = {**pod.environment, **secret.environment}
        refused = command(rds.url(STEPS, database), environment, "-m", "migrations", "roles")
    assert refused.returncode == 1
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "hunter2" not in refused.stderr


def test_a_secret_that_is_not_there_is_named(
    rds: Rds, database: str, pod: PodIdentity, secret: SecretsManager
) -> None:
    environment = {**pod.environment, **secret.environment}
    for arn, message in (
        (f"{secret.arn}x", "can't find the specified secret"),
        ("rds!db-1", "DATABASE_MASTER_SECRET_ARN: takes arn:aws:secretsmanager:"),
    ):
        environment["DATABASE_MASTER_SECRET_ARN"] = arn
        refused = command(rds.url(STEPS, database), environment, "-m", "migrations", "roles")
        assert refused.returncode == 1
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_what_it_would_run_is_printed_without_a_database() -> None:
    printed = command("", {}, "-m", "migrations", "roles", "--sql", "--workers", "o'brien")
    assert printed.returncode == 0, printed.stderr
    assert roles_sql(Roles(workers="o'brien")) in printed.stdout
    assert "'o''brien'" in printed.stdout


@pytest.mark.parametrize("names", [("a", "a"), ("", "b"), ("pg_steps", "b"), ("a", "b" * 64)])
def test_names_that_are_none_are_refused(names: tuple[str, str]) -> None:
    arguments = ("--steps", names[0], "--workers", names[1])
    assert command("", {}, "-m", "migrations", "roles", *arguments).returncode == 2


def test_on_another_postgres_it_says_that_there_is_no_iam_and_goes_on(
    postgres_server: PostgresServer,
) -> None:
    name, _ = postgres_server.create_database()
    url = postgres_server.url_for("postgres", name, postgres_server.password)
    roles = Roles(f"{name}_steps", f"{name}_workers")
    with pytest.raises(RolesError, match=r"nothing was changed: .* no role rds_iam"):
        make_roles(url, Roles(roles.steps, roles.workers, "required"))
    said: list[str] = []
    result = make_roles(url, roles, progress=said.append)
    assert result.outcome == "changed"
    assert any("passwords that you give them" in note for note in result.notes)
    assert any(line.startswith("note: no role rds_iam here") for line in said)
    assert make_roles(url, roles).outcome == "current"
    postgres_server.drop_database(name)
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        for role in (roles.steps, roles.workers):
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_role_that_may_too_much_is_refused_and_left(rds: Rds, master_url: str) -> None:
    with psycopg.connect(rds.server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} BYPASSRLS").format(sql.Identifier(WORKERS)))
        with pytest.raises(RolesError, match=f"role {WORKERS} may more than it should"):
            make_roles(master_url, Roles())
        assert [row[0] for row in attributes(connection)] == [WORKERS]


def test_the_masters_tables_become_the_steps_and_the_application_keeps_its_rights(
    rds: Rds, database: str, master_url: str
) -> None:
    with psycopg.connect(master_url, autocommit=True) as connection:
        connection.execute(TYPEORM)
        connection.execute("CREATE TABLE sessions (token text)")
        make_roles(master_url, Roles())
        owners = dict(
            connection.execute(
                "SELECT relname, pg_get_userbyid(relowner)::text FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            ).fetchall()
        )
        assert owners.pop("sessions") == "master", "no table of ours"
        assert owners == dict.fromkeys(
            ("actors", "flashcards", "review_logs", "nodes", "edges"), STEPS
        )
        connection.execute("INSERT INTO actors DEFAULT VALUES")
        assert connection.execute("SELECT count(*) FROM review_logs").fetchone() == (1000,)
    assert make_roles(master_url, Roles()).outcome == "current"


def test_where_the_application_has_a_role_the_steps_act_as_that(
    rds: Rds, database: str, master_url: str, pod: PodIdentity
) -> None:
    with psycopg.connect(master_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE application LOGIN PASSWORD 'theirs'")
        connection.execute("GRANT CREATE ON SCHEMA public TO application")
    with psycopg.connect(rds.url("application", database, "theirs")) as connection:
        connection.execute(TYPEORM)
    result = make_roles(master_url, Roles())
    assert f"role {STEPS} acts as application" in result.changes
    assert make_roles(master_url, Roles()).outcome == "current"
    environment = {**pod.environment, "DATABASE_AUTHENTICATION": "aws-iam"}
    url = rds.url(STEPS, database)
    for arguments in (
        ("-m", "migrations", "upgrade"),
        ("-m", "workers", "install", "--role", WORKERS),
        ("-m", "migrations.partition", "run", "--hold=0"),
    ):
        done = command(url, environment, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    with psycopg.connect(rds.url("application", database, "theirs")) as connection:
        assert connection.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class"
            " WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text"
            " IN ('public', 'partitioning', 'migrations', 'workers')"
        ).fetchall() == [("application",)]


def test_tables_of_several_owners_are_refused(rds: Rds, database: str, master_url: str) -> None:
    with psycopg.connect(rds.server.url_for("postgres", database, rds.server.password)) as other:
        other.execute("CREATE ROLE application")
        other.execute(TYPEORM)
        other.execute("ALTER TABLE edges OWNER TO application")
    with pytest.raises(RolesError, match=r"several owners \(application, postgres\)"):
        make_roles(master_url, Roles())


WORKERS_MUST_NOT: list[LiteralString] = [
    "DROP TABLE review_logs",
    "ALTER TABLE review_logs ADD COLUMN note text",
    "ALTER TABLE review_logs DISABLE TRIGGER note_review_change",
    "DROP TRIGGER note_review_change ON review_logs",
    "DELETE FROM review_logs",
    "UPDATE review_logs SET rating = 4",
    "INSERT INTO review_logs (rating, state, elapsed_time) VALUES (1, '{}', 0)",
    "TRUNCATE review_logs",
    "SELECT * FROM actors",
    'SELECT "createdAt" FROM actors',
    "UPDATE actors SET id = gen_random_uuid()",
    "INSERT INTO actors DEFAULT VALUES",
    "SELECT type FROM nodes",
    "UPDATE nodes SET type = 'Concept'",
    "DELETE FROM edges",
    "SELECT FROM later",
    "SELECT FROM migrations.alembic_version",
    "SELECT FROM partitioning.tables",
    "CREATE TABLE mine ()",
    "CREATE SCHEMA mine",
    "CREATE TABLE workers.mine ()",
    "ALTER TABLE workers.fsrs_runs ADD COLUMN note text",
    "DROP TABLE workers.review_changes",
    "DELETE FROM workers.fsrs_runs",
    "UPDATE workers.review_changes SET month = NULL",
    "DROP SCHEMA workers CASCADE",
    "CREATE OR REPLACE FUNCTION workers.note_review_change() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'",
    "CREATE ROLE mine",
    f"SET ROLE {STEPS}",
    "SET ROLE master",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "ALTER SYSTEM SET log_statement = 'all'",
]
STEPS_MUST_NOT: list[LiteralString] = [
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "SET ROLE master",
    f"ALTER ROLE {STEPS} BYPASSRLS",
    f"ALTER ROLE {WORKERS} PASSWORD 'mine'",
    f"GRANT {WORKERS} TO {STEPS}",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SET session_replication_role = replica",
    "SELECT rolpassword FROM pg_authid",
]


def not_refused(url: str, statements: list[LiteralString]) -> dict[str, str]:
    """Return those of the statements that were not refused for want of privileges."""
    wrong: dict[str, str] = {}
    with psycopg.connect(url, autocommit=True, **parameters(url)) as connection:
        for statement in statements:
            try:
                # In no transaction, which some of them are refused for first.
                connection.execute(statement)
                wrong[statement] = "was let"
            except errors.InsufficientPrivilege:
                continue
            except psycopg.Error as error:
                wrong[statement] = str(error)
    return wrong


@pytest.mark.slow
def test_steps_and_workers_can_do_all_they_need_and_nothing_else(
    rds: Rds,
    database: str,
    master_url: str,
    pod: PodIdentity,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_roles(master_url, Roles())
    environment = {**pod.environment, "DATABASE_AUTHENTICATION": "aws-iam"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(iam, "_session", None)
    by_steps, by_workers = rds.url(STEPS, database), rds.url(WORKERS, database)

    def step(*arguments: str) -> dict[str, Any]:
        done = command(by_steps, environment, *arguments, "--json")
        assert done.returncode == 0, (arguments, done.stderr, done.stdout)
        return json.loads(done.stdout.splitlines()[-1])

    def partition(*arguments: str) -> dict[str, Any]:
        return step("-m", "migrations.partition", *arguments)

    def calculation() -> tuple[int, bool]:
        """Return the reviews a calculation rests on, and whether only noted months were read."""
        workers = Database(by_workers, "test")
        connection = workers.connection()
        result = calculate(connection, Definition())
        assert is_tracked(connection), find_sources(connection)
        result = calculate(connection, Definition())
        workers.discard()
        return result.reviews, result.read == 0

    assert step("-m", "migrations", "upgrade")["outcome"] == "upgraded"
    assert step("-m", "workers", "install", f"--role={WORKERS}")["outcome"] == "installed"
    assert step("-m", "workers", "install", f"--role={WORKERS}")["outcome"] == "installed"
    step("-m", "history", "simulate", "--actors=3", "--reviews=3000", "--months=4", "--seed=1")

    with programs_on(by_workers, redis_url, tmp_path) as programs:
        exporter = programs.ready("exporter")
        programs.ready("fsrs-optimization", FSRS_MIN_REVIEWS="50")
        programs.ready("complexity")
        programs.ready("scheduler", FSRS_MIN_REVIEWS="50")

        def done() -> bool:
            jobs = [
                exporter.value("bullmq_jobs_finished_total", queue=queue, state="completed")
                for queue in ("fsrs-optimization", "complexity")
            ]
            return jobs[0] is not None and jobs[0] >= 3 and bool(jobs[1])

        wait_until(done, 90)
        partition("plan")
        partition("prepare")
        partition("sync")
        wait_until(lambda: exporter.value("partitioning_months", table="public.review_logs"), 20)
        partition("backfill", "--jobs=2")
        partition("verify")
        partition("cutover")
        reviews, only_notes = calculation()
        assert reviews >= 3000
        assert only_notes
        partition("rollback")
        assert calculation() == (reviews, True)
        partition("cutover")
        partition("retire", "--hold=0")
        partition("maintain")
        assert calculation() == (reviews, True)
        assert exporter.value("postgres_up") == 1
        logs = "".join(program.log for program in programs.started)
        assert "permission denied" not in logs
        assert "not noted" not in logs
        for program in programs.started:
            assert program.terminate() == 0, program.log
    for token in rds.logins:
        assert token.rpartition("X-Amz-Signature=")[2] not in logs

    # Next month's partition, too: made by maintain after one was taken away.
    behind = rds.server.url_for("postgres", database, rds.server.password)
    with psycopg.connect(behind, autocommit=True) as superuser:
        last = superuser.execute(
            "SELECT max(relid::text) FROM pg_partition_tree('review_logs') WHERE isleaf"
        ).fetchone()
        assert last is not None
        superuser.execute(sql.SQL("DROP TABLE {}").format(sql.SQL(last[0])))
        partition("maintain")
        leaves = superuser.execute(
            "SELECT relid::regclass::text, has_table_privilege(%s, relid, 'SELECT'),"
            " has_table_privilege(%s, relid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER,"
            " REFERENCES, SELECT WITH GRANT OPTION')"
            " FROM pg_partition_tree('review_logs')",
            [WORKERS, WORKERS],
        ).fetchall()
        assert (last[0], True, False) in leaves
        assert {leaf[1:] for leaf in leaves} == {(True, False)}
        superuser.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(STEPS)))
        superuser.execute("CREATE TABLE later ()")
        superuser.execute("RESET ROLE")
        # No table of the workers that they have nothing to do with.
        forgotten = superuser.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'workers'::regnamespace"
            " AND relkind = 'r' AND NOT has_table_privilege(%s, oid, 'SELECT')",
            [WORKERS],
        ).fetchall()
    assert forgotten == []
    assert not_refused(by_workers, WORKERS_MUST_NOT) == {}
    assert not_refused(by_steps, STEPS_MUST_NOT) == {}
