"""Prod migrates and partitions its database by its own Jobs: nothing in the pods is pretended.

The application's tables are there first, with its rows, and it writes all the time. One stack, the
tests in order.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import psycopg
import pytest
from botocore.exceptions import ClientError
from psycopg import sql

from migrations.roles import STEPS, WORKERS
from stacks.aws.database import ADMINISTRATOR, DATABASE
from stacks.aws.platform import ROLES, STEP_IDENTITY
from stacks.kubernetes.namespaces import APPLICATIONS
from tests.kubernetes.objects import is_ready, wait_for
from tests.kubernetes.pod_monitors import SERVICES
from tests.kubernetes.rds import PORT
from tests.migrations.databases import background
from tests.migrations.partition import application
from tests.rds import REGION, Rds
from tests.stacks.production import Production

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OWNER = "application"
ROWS, DAYS = 60_000, 420
WITHOUT_CLUSTER = ("--exclude", "**::platform-kubernetes", "--exclude-dependents")
"""The first update, as docs/bootstrap.md has it: what is in AWS."""


class Writers(application.Writers):
    """As many writes as an application has, and no more: the stand-ins share our processor."""

    def _transaction(self, connection: psycopg.Connection, session: application.Session) -> None:
        super()._transaction(connection, session)
        time.sleep(0.02)


@pytest.fixture(scope="module")
def writers(production: Production) -> Iterator[Writers]:
    """The application, logged in as the owner of tables that are there before our first step."""
    production.engine.up(*WITHOUT_CLUSTER)
    password = secrets.token_urlsafe(20)
    url = production.rds.url(OWNER, DATABASE, password)
    master = production.rds.url(ADMINISTRATOR, DATABASE, production.rds.master_password)
    with psycopg.connect(master) as connection:
        role = sql.Identifier(OWNER)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(role))
    application.create(url, ROWS, DAYS)
    with Writers(url, threads=2) as running:
        running.far_months = False
        running.may_be_partitioned = True
        yield running


@pytest.fixture
def goes_on(production: Production, writers: Writers) -> Iterator[None]:
    """The application writes throughout a test; its rows are all there, and no others, after it."""
    yield
    writers.wait_for(20)
    assert writers.errors == []
    assert application.differences(production.administrator, "journal", "review_logs") == []


def months(production: Production) -> list[date]:
    """Return the first days of the months that the table is partitioned by; [] of a plain one."""
    rows = production.administrator.execute(
        "SELECT substring(pg_get_expr(c.relpartbound, c.oid) FROM '[0-9]{4}-[0-9]{2}-[0-9]{2}')"
        "::date FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'review_logs'::regclass ORDER BY 1"
    ).fetchall()
    return [row[0] for row in rows]


@pytest.mark.usefixtures("goes_on")
def test_an_update_makes_roles_and_schema_around_the_application_and_all_services_are_ready(
    production: Production,
) -> None:
    production.up()
    for step in ("roles", "schema", "install"):
        assert production.exit_codes(step) == [0]
    for service in SERVICES:
        pods = production.cluster.pods(**{"app.kubernetes.io/name": service})
        assert pods
        assert all(is_ready(pod) for pod in pods)
    production.administrator.execute('SELECT "previousState" FROM review_logs LIMIT 0')


def test_pods_log_in_by_the_identity_of_their_service_account(production: Production) -> None:
    accounts = {role: account for (_, account), role in production.identities.roles.items()}
    by_key = production.identities.role_of_key
    readers = {accounts[by_key[key]] for key in production.secrets.readers}
    assert readers == {ROLES}
    tokens = [dict(parse_qsl(urlsplit(f"//{token}").query)) for token in production.rds.logins]
    used = {
        (accounts[by_key[token["X-Amz-Credential"].split("/")[0]]], token["DBUser"])
        for token in tokens
    }
    # The exporter looks only when it is scraped.
    asking = [service for service in SERVICES if service != "exporter"]
    assert used - {("exporter", WORKERS)} == {
        (STEP_IDENTITY, STEPS),
        *((service, WORKERS) for service in asking),
    }
    assert production.rds.refusals == []


def test_an_identity_may_do_nothing_that_is_another_s(production: Production) -> None:
    """By the policies that the program gave their roles."""
    primary, replica = production.rds, production.replica
    for account, role, where in (
        (STEP_IDENTITY, WORKERS, primary),
        (STEP_IDENTITY, STEPS, replica),
        (ROLES, STEPS, primary),
        ("scheduler", STEPS, primary),
        ("scheduler", WORKERS, replica),
    ):
        with pytest.raises(psycopg.OperationalError, match="PAM authentication failed"):
            log_in(production, account, role, where)
        assert where.refusals.pop() == f"IAM does not let it connect as {role}"
    assert log_in(production, "complexity", WORKERS, replica) == WORKERS
    master = production.engine.outputs()["database_master_secret_arn"]
    for account in (STEP_IDENTITY, *SERVICES):
        with pytest.raises(ClientError, match="AccessDenied"):
            client(production, account, "secretsmanager").get_secret_value(SecretId=master)
    assert client(production, ROLES, "secretsmanager").get_secret_value(SecretId=master)


def client(production: Production, account: str, service: str) -> Any:
    """Return a client of AWS with keys such as a pod of a service account has."""
    key, secret, session = production.identities.keys.new()
    role = production.identities.roles[APPLICATIONS, account]
    production.identities.role_of_key[key] = role
    return boto3.client(  # pyright: ignore[reportCallIssue, reportUnknownMemberType]
        service,  # pyright: ignore[reportArgumentType]
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=session,
        endpoint_url=production.secrets.address,
    )


def log_in(production: Production, account: str, role: str, where: Rds) -> str:
    """Log in as a pod of the account would; return as whom that was."""
    token = client(production, account, "rds").generate_db_auth_token(where.host, PORT, role)
    with psycopg.connect(where.url(role, DATABASE), password=token) as connection:
        row = connection.execute("SELECT session_user").fetchone()
        assert row is not None
        return row[0]


@pytest.mark.usefixtures("goes_on")
def test_a_step_that_refuses_fails_the_update_with_its_own_words(production: Production) -> None:
    production.administrator.execute(
        "CREATE TABLE remarks (id int, review uuid REFERENCES review_logs)"
    )
    said = production.refused(partitioning={"phase": "cutover"})
    assert "public.review_logs cannot be partitioned as it is; nothing was changed:" in said
    assert "remarks" in said
    assert set(production.exit_codes("prepare")) == {1}
    assert production.job_pods("sync") == []


def phase(production: Production) -> str:
    """Return how far the partitioning is."""
    administrator = production.administrator
    with contextlib.suppress(psycopg.errors.UndefinedTable):
        row = administrator.execute("SELECT phase FROM partitioning.tables").fetchone()
        return row[0] if row else ""
    return ""


@contextlib.contextmanager
def held_month(production: Production) -> Iterator[None]:
    """Hold a month back, as soon as writes are mirrored, so that no backfill finishes it."""
    wait_for(lambda: phase(production) == "sync", 60)
    with psycopg.connect(production.rds.server.url, dbname=DATABASE) as connection:
        connection.execute("SELECT FROM partitioning.months ORDER BY month LIMIT 1 FOR UPDATE")
        yield


def live_months(production: Production) -> int:
    row = production.administrator.execute(
        "SELECT count(*) FROM partitioning.months WHERE state = 'live'"
    ).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.usefixtures("goes_on")
def test_the_next_update_runs_it_again_and_goes_on_though_a_pod_is_killed_in_mid_backfill(
    production: Production,
) -> None:
    # In the order in which writers take the locks.
    production.administrator.execute(
        "BEGIN; LOCK review_logs IN ACCESS EXCLUSIVE MODE; DROP TABLE remarks; COMMIT"
    )
    with background(production.up) as outcome:
        with held_month(production):
            wait_for(lambda: live_months(production) >= 3, 60)
            (pod,) = production.job_pods("backfill")
            production.node.kill(APPLICATIONS, pod["metadata"]["name"])
            wait_for(lambda: production.exit_codes("backfill") == [137])
        wait_for(lambda: outcome, 120)
    assert outcome == [None]
    assert production.exit_codes("backfill") == [137, 0]
    resumed = production.job_pods("backfill")[1]["metadata"]["name"]
    assert "were live before" in production.log(resumed)
    assert phase(production) == "cutover"
    assert len(months(production)) >= DAYS // 31


@pytest.mark.usefixtures("goes_on")
def test_a_phase_back_swaps_the_old_table_in_again(production: Production) -> None:
    production.up(partitioning={"phase": "verify"})
    assert phase(production) == "verify"
    assert months(production) == []


@pytest.mark.usefixtures("goes_on")
def test_the_last_phase_drops_the_old_table_and_then_there_is_nothing_to_do(
    production: Production,
) -> None:
    production.up(partitioning={"phase": "retire"})
    assert phase(production) == "retire"
    assert len(months(production)) >= DAYS // 31
    row = production.administrator.execute("SELECT to_regclass('review_logs_retired')").fetchone()
    assert row == (None,)
    production.engine.expect_no_changes()
