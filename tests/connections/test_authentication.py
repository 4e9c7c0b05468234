"""Whether the URL fits the way to log in is known before anything is connected to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from connections.authentication import AuthenticationError, method, parameters, require
from migrations import database
from workers.settings import ComplexitySettings, Settings, SettingsError, load

ROOT = Path(__file__).resolve().parents[2]
GOOD = "postgresql://learner@db.example:5432/platform?sslmode=verify-full&sslrootcert=/ca.pem"

REFUSED = [
    ("postgresql://learner@db.example/platform", "DATABASE_URL: takes sslmode=verify-full"),
    ("postgresql://learner@db.example/platform?sslmode=require", "takes sslmode=verify-full"),
    (GOOD.replace("learner@", "learner:hunter2@"), "DATABASE_URL: takes no password"),
    (GOOD.replace("learner@", ""), "DATABASE_URL: names no role"),
    (GOOD.replace(":5432", ":5432,other:5432"), "DATABASE_URL: takes one host"),
    (GOOD.replace("db.example:5432", ""), "DATABASE_URL: takes one host"),
    (GOOD.replace("db.example:5432", "%2Fvar%2Frun"), "DATABASE_URL: takes one host"),
]


@pytest.fixture(autouse=True)
def _iam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_AUTHENTICATION", "aws-iam")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


@pytest.mark.parametrize(("url", "message"), REFUSED)
def test_a_url_that_a_token_does_not_go_with_is_refused_and_named(
    monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    with pytest.raises(AuthenticationError, match=message) as refused:
        require(url, "DATABASE_URL")
    with pytest.raises(AuthenticationError, match=message):
        parameters(url)
    assert "\n" not in str(refused.value)
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(database.DatabaseError, match=message) as by_migrations:
        database.database_url()
    assert "hunter2" not in f"{refused.value}{by_migrations.value}"


@pytest.mark.parametrize("url", [GOOD, GOOD.replace("verify-full", "verify-ca")])
def test_a_url_whose_server_is_verified_is_taken(url: str) -> None:
    require(url, "DATABASE_URL")


def test_without_a_region_there_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(AuthenticationError, match="AWS_REGION: is not set"):
        require(GOOD, "DATABASE_URL")


def test_an_unknown_way_to_log_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_AUTHENTICATION", "kerberos")
    monkeypatch.setenv("DATABASE_URL", GOOD)
    message = "DATABASE_AUTHENTICATION: takes password or aws-iam"
    with pytest.raises(AuthenticationError, match=message):
        method()
    with pytest.raises(database.DatabaseError, match=message):
        database.database_url()


@pytest.mark.parametrize("value", [None, "", "password"])
def test_a_password_is_what_is_used_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("DATABASE_AUTHENTICATION")
    if value is not None:
        monkeypatch.setenv("DATABASE_AUTHENTICATION", value)
    assert parameters("postgresql://u:p@db/x") == {}


# Several hosts, and none, are no URL to the workers as it is.
@pytest.mark.parametrize(("url", "message"), REFUSED[:4])
def test_the_workers_refuse_it_at_the_start(
    monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://db.example:6379/0")
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SettingsError, match=message) as refused:
        load(Settings)
    assert "hunter2" not in str(refused.value)


def test_the_complexity_worker_looks_at_the_replica_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://db.example:6379/0")
    monkeypatch.setenv("DATABASE_URL", GOOD)
    monkeypatch.setenv("DATABASE_REPLICA_URL", GOOD.replace("verify-full", "prefer"))
    with pytest.raises(SettingsError, match=r"^DATABASE_REPLICA_URL: takes sslmode=verify-full"):
        load(ComplexitySettings)


def test_what_signs_is_not_imported_where_a_password_is_used() -> None:
    program = (
        "import sys, history.connection, migrations.database, workers.database, workers.readiness;"
        "from connections.authentication import parameters;"
        "parameters('postgresql://u:p@db/x');"
        "sys.exit('botocore' in sys.modules or 'boto3' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, env={})
