"""Fixtures every test may use: real Postgres, real Valkey, and the obtained tools."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import PostgresServer, ValkeyServer, running_postgres, running_valkey

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh, empty database owned by a plain role, as `DATABASE_URL` wants it."""
    name, url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(name)


@pytest.fixture
def unseeing_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The same, but the role may not see what others do."""
    name, url = postgres_server.create_database(sees_statistics=False)
    yield url
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with running_valkey() as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """An emptied Valkey, as `REDIS_URL` wants it."""
    valkey_server.client().flushall()
    return valkey_server.url


class Tools:
    """Finds the obtained programs: first in `.tools/bin`, then on PATH."""

    def __init__(self) -> None:
        self.search_path = os.pathsep.join([str(ROOT / ".tools" / "bin"), os.environ["PATH"]])

    def __getitem__(self, name: str) -> str:
        found = shutil.which(name, path=self.search_path)
        if found is None:
            pytest.fail(f"{name} is missing: run `make tools` first")
        return found


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools()
