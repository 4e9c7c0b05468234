"""Fixtures of the tests of logging in: RDS's way of it, and a pod's credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from connections import iam
from tests.rds import PodIdentity, Rds, running_rds


@pytest.fixture(scope="session")
def rds() -> Iterator[Rds]:
    """A Postgres behind TLS and IAM, with a role `learner` that may log in by tokens alone."""
    with running_rds() as rds:
        with psycopg.connect(rds.server.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE learner LOGIN IN ROLE rds_iam")
        yield rds


@pytest.fixture
def pod(rds: Rds, tmp_path: Path) -> Iterator[PodIdentity]:
    with PodIdentity(rds.keys, tmp_path) as pod:
        yield pod


@pytest.fixture
def in_pod(pod: PodIdentity, monkeypatch: pytest.MonkeyPatch) -> PodIdentity:
    """This process as one of a pod: with IAM to log in, and credentials of nobody else's."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**pod.environment, "DATABASE_AUTHENTICATION": "aws-iam"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(iam, "_session", None)
    return pod
