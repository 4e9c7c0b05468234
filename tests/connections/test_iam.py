"""Logging in with tokens, at a Postgres that checks them as RDS does."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from pathlib import Path

import boto3
import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from connections import iam
from connections.authentication import parameters
from migrations import schema
from migrations.database import DatabaseError, connect
from tests.rds import REGION, PodIdentity, Rds
from workers.database import Database, is_unavailable
from workers.readiness import Dependencies


@pytest.fixture
def url(rds: Rds, in_pod: PodIdentity) -> str:
    return rds.url("learner", "postgres")


@pytest.mark.parametrize("session_token", [None, "session/+token=="])
def test_a_token_is_what_boto3_makes(
    monkeypatch: pytest.MonkeyPatch, session_token: str | None
) -> None:
    monkeypatch.setattr(iam, "_session", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret/+key")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    if session_token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", session_token)
    now = datetime.datetime(2026, 11, 25, 1, 2, 3, tzinfo=datetime.UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now)
    client = boto3.Session().client("rds", REGION)
    theirs = client.generate_db_auth_token("db.example", 5432, "a role+1", REGION)
    assert iam.token("db.example", 5432, "a role+1", REGION) == theirs
    assert "AKIAEXAMPLE%2F20261125%2Feu-central-1%2Frds-db" in theirs


def test_every_connection_shows_a_token_of_its_own(rds: Rds, in_pod: PodIdentity, url: str) -> None:
    rds.logins.clear()
    for _ in range(2):
        with connect(url, "test") as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("learner",)
            assert "sslmode=verify-full" in connection.info.dsn
        time.sleep(1.1)
    first, second = rds.logins
    assert first != second
    assert in_pod.served == 1, "the keys themselves are kept"


def test_the_revisions_log_in_so(rds: Rds, url: str) -> None:
    rds.logins.clear()
    with psycopg.connect(rds.server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS revised")
        connection.execute("CREATE DATABASE revised OWNER learner")
    result = schema.upgrade(rds.url("learner", "revised"))
    assert result.outcome == "upgraded"
    assert rds.logins


def test_a_worker_comes_back_after_its_token_has_expired(
    monkeypatch: pytest.MonkeyPatch, rds: Rds, url: str
) -> None:
    monkeypatch.setattr(rds.keys, "token_seconds", 1)
    database = Database(url, "test")
    pid = database.connection().info.backend_pid
    spent = rds.logins[-1]
    time.sleep(1.2)
    assert database.connection().execute("SELECT 1").fetchone() == (1,), "it needs none any more"
    with pytest.raises(psycopg.OperationalError, match="PAM authentication failed"):
        psycopg.connect(url, password=spent)
    assert rds.refusals[-1] == "it has expired"
    with psycopg.connect(rds.server.url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(psycopg.OperationalError):
        database.connection().execute("SELECT 1")
    database.discard()
    assert database.connection().execute("SELECT 1").fetchone() == (1,)
    database.discard()


def test_keys_that_run_out_are_renewed(rds: Rds, in_pod: PodIdentity, url: str) -> None:
    # botocore renews what is good for less than ten minutes more.
    in_pod.seconds = 60
    for served in (1, 2):
        with connect(url, "test"):
            assert in_pod.served >= served


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"role": "somebody"}, "it is to connect as somebody"),
        ({"port": 5432}, "it is for localhost:5432"),
        ({"region": "us-east-1"}, "it is for rds-db in us-east-1"),
    ],
)
def test_a_token_is_for_one_role_at_one_server(
    rds: Rds, url: str, change: dict[str, object], reason: str
) -> None:
    place = {"host": "localhost", "port": rds.port, "role": "learner", "region": REGION}
    wrong = iam.token(**{**place, **change})  # pyright: ignore[reportArgumentType]
    with pytest.raises(psycopg.OperationalError, match="PAM authentication failed"):
        psycopg.connect(url, password=wrong)
    assert rds.refusals[-1] == reason


def test_no_other_server_is_shown_the_token(
    monkeypatch: pytest.MonkeyPatch, rds: Rds, url: str
) -> None:
    rds.logins.clear()
    with pytest.raises(DatabaseError, match="does not match host name"):
        connect(url.replace("localhost", "127.0.0.1"), "test")
    with pytest.raises(DatabaseError, match="root certificate file"):
        connect(url.replace("rds-ca.pem", "none.pem"), "test")
    assert rds.logins == []


def test_without_credentials_one_line_says_so_and_it_is_tried_again(
    rds: Rds, in_pod: PodIdentity, url: str
) -> None:
    in_pod.associated = False
    with pytest.raises(psycopg.Error) as missing:
        Database(url, "test").connection()
    assert is_unavailable(missing.value)
    assert str(missing.value).startswith("no AWS credentials for learner@localhost: ")
    assert "no role is associated" in str(missing.value)
    assert "\n" not in str(missing.value)
    with pytest.raises(DatabaseError, match=r"cannot connect to .*: no AWS credentials for"):
        connect(url, "test")
    in_pod.associated = True
    Database(url, "test").connection().close()


def test_where_nothing_gives_credentials_that_is_said(
    monkeypatch: pytest.MonkeyPatch, in_pod: PodIdentity, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(iam.CredentialsError, match=r"none are found; .* pod identity association"):
        iam.token("localhost", 5432, "learner", REGION)


def test_readiness_reports_missing_credentials_and_then_that_all_is_well(
    rds: Rds, in_pod: PodIdentity, url: str, redis_url: str
) -> None:
    async def watch() -> list[str]:
        in_pod.associated = False
        dependencies = Dependencies(url, redis_url, "test")
        dependencies.start()
        try:
            async with asyncio.timeout(20):
                while not any("no AWS credentials" in line for line in dependencies.missing()):
                    await asyncio.sleep(0.05)
                in_pod.associated = True
                await dependencies.wait()
            return dependencies.missing()
        finally:
            await dependencies.stop()

    assert asyncio.run(watch()) == []


def test_a_token_is_in_no_log_and_no_error_however_much_is_logged(
    caplog: pytest.LogCaptureFixture, rds: Rds, url: str
) -> None:
    caplog.set_level(logging.DEBUG)
    rds.logins.clear()
    with connect(url, "test") as connection:
        shown = [repr(connection), str(connection.info.get_parameters())]
    missing = rds.url("learner", "missing")
    with pytest.raises(DatabaseError, match='"missing" does not exist') as refused:
        connect(missing, "test")
    with pytest.raises((schema.SchemaError, DBAPIError, DatabaseError)) as of_schema:
        schema.status(missing)
    with pytest.raises(psycopg.OperationalError) as of_worker:
        Database(missing, "test").connection()
    shown += map(str, (refused.value, of_schema.value, of_worker.value))
    shown += [record.getMessage() for record in caplog.records]
    text = "\n".join(shown)
    assert len(rds.logins) == 4
    for token in rds.logins:
        for part in (token, token.rpartition("X-Amz-Signature=")[2]):
            assert part not in text
    for known in (rds.keys.secrets_by_id, rds.keys.session_tokens):
        assert not any(secret in text for secret in known.values())


def test_the_keys_of_the_environment_do_as_well(
    monkeypatch: pytest.MonkeyPatch, rds: Rds, url: str
) -> None:
    identity, secret, session_token = rds.keys.new()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", identity)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_SESSION_TOKEN", session_token)
    with psycopg.connect(url, **parameters(url)) as connection:
        assert connection.info.user == "learner"
