from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from tests.kubernetes.certificates import Authority
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.identity import Identities
from tests.kubernetes.node import Node, running_node
from tests.kubernetes.objects import Cluster, once, python
from tests.kubernetes.rds import PORT, allow, running_database
from tests.rds import Rds

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
ACCOUNTS = ("workers", "steps")
NAME = "platform.abc.eu-central-1.rds.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "AWS")


@pytest.fixture(scope="module")
def identities() -> Identities:
    # A test's namespace has a name of its own, and so its accounts are added by the test.
    return Identities({}, REGION)


@pytest.fixture(scope="module")
def rds(authority: Authority, identities: Identities) -> Iterator[Rds]:
    with running_database(authority, identities, master="boss", names=[NAME]) as running:
        with psycopg.connect(running.server.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE worker LOGIN IN ROLE rds_iam")
            connection.execute("CREATE ROLE step LOGIN IN ROLE rds_iam")
        allow(identities, {"workers-role": {"worker"}, "steps-role": {"step"}})
        yield running


def token(keys: tuple[str, str, str], host: str, role: str = "worker") -> str:
    """Return what AWS's own library makes of an access key."""
    identity, secret, session = keys
    client: Any = boto3.client(
        "rds",
        region_name=REGION,
        aws_access_key_id=identity,
        aws_secret_access_key=secret,
        aws_session_token=session,
    )
    return client.generate_db_auth_token(host, PORT, role)


def log_in(rds: Rds, password: str, role: str = "worker", host: str | None = None) -> Any:
    with psycopg.connect(
        host=host or rds.host,
        hostaddr=rds.host,
        port=PORT,
        user=role,
        password=password,
        dbname="postgres",
        sslmode="verify-full",
        sslrootcert=str(rds.authority),
        gssencmode="disable",
    ) as connection:
        row = connection.execute("SELECT session_user").fetchone()
        assert row is not None
        return row[0]


@pytest.fixture
def keys(identities: Identities, rds: Rds) -> tuple[str, str, str]:
    new = identities.keys.new()
    identities.role_of_key[new[0]] = "workers-role"
    return new


def test_a_token_logs_in_at_the_address_and_by_each_name(
    rds: Rds, keys: tuple[str, str, str]
) -> None:
    assert log_in(rds, token(keys, rds.host)) == "worker"
    assert log_in(rds, token(keys, NAME), host=NAME) == "worker"


def test_the_master_logs_in_with_its_password_alone(rds: Rds, keys: tuple[str, str, str]) -> None:
    assert log_in(rds, rds.master_password, "boss") == "boss"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        log_in(rds, token(keys, rds.host, "boss"), "boss")


def test_tokens_that_are_not_for_here_and_now_are_refused(
    rds: Rds, keys: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = ("ASIA0000", "secret", "session")
    for wrong, reason in (
        (token(keys, "another.example"), "it is for another.example:5432"),
        (token(stranger, rds.host), "the access key is unknown, or not its session's"),
        (token((keys[0], "guessed", keys[2]), rds.host), "the signature"),
        (token(keys, rds.host, "step"), "it is to connect as step"),
        (rds.master_password, f"it is for {rds.master_password}"),
    ):
        with pytest.raises(psycopg.OperationalError, match="PAM authentication failed"):
            log_in(rds, wrong)
        assert rds.refusals[-1].casefold() == reason.casefold()
    with pytest.raises(psycopg.OperationalError):
        log_in(rds, token(keys, rds.host, "step"), "step")
    assert rds.refusals[-1] == "IAM does not let it connect as step"
    old = token(keys, rds.host)
    monkeypatch.setattr(rds.keys, "token_seconds", 0)
    with pytest.raises(psycopg.OperationalError):
        log_in(rds, old)
    assert rds.refusals[-1] == "it has expired"


def test_another_authority_is_not_trusted(rds: Rds, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(
            f"postgresql://boss:x@{rds.host}:{PORT}/postgres?sslmode=verify-full",
            sslrootcert=str(other.certificate),
        )


PROGRAM = """
import os
from migrations.database import connect
with connect(os.environ["DATABASE_URL"], "test") as connection:
    print(connection.execute("SELECT session_user").fetchone()[0])
"""


def connecting(rds: Rds, account: str, role: str) -> Any:
    variables = {
        "DATABASE_URL": f"postgresql://{role}@{rds.host}:{PORT}/postgres?sslmode=verify-full",
        "DATABASE_AUTHENTICATION": "aws-iam",
        "AWS_REGION": REGION,
    }
    env = [{"name": name, "value": value} for name, value in variables.items()]
    program = python(
        PROGRAM,
        env=env,
        workingDir="/application",
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    return once(program, serviceAccountName=account)


@pytest.fixture
def node(control_plane: ControlPlane, identities: Identities, rds: Rds) -> Iterator[Node]:
    environment = {"PGSSLROOTCERT": str(rds.authority)}
    with running_node(control_plane, identities=identities, environment=environment) as running:
        yield running


def test_a_pod_logs_in_by_the_identity_of_its_service_account(
    control_plane: ControlPlane, namespace: str, node: Node, rds: Rds, identities: Identities
) -> None:
    cluster = Cluster(control_plane.api, namespace)
    for account in (*ACCOUNTS, "nobody"):
        cluster.create("serviceaccounts", account)
    identities.roles = {(namespace, account): f"{account}-role" for account in ACCOUNTS}
    cluster.run("worker", connecting(rds, "workers", "worker"))
    cluster.run("greedy", connecting(rds, "workers", "step"))
    cluster.run("nobody", connecting(rds, "nobody", "worker"))
    assert cluster.ended("worker")["status"]["phase"] == "Succeeded"
    assert node.logs(namespace, "worker") == "worker\n"
    # A wrong log-in is tried for a while: the server may be about to start.
    assert cluster.ended("greedy", 60)["status"]["phase"] == "Failed"
    assert rds.refusals[-1] == "IAM does not let it connect as step"
    ended = cluster.ended("nobody", 60)
    (status,) = ended["status"]["containerStatuses"]
    assert "credentials" in status["state"]["terminated"]["message"]
