"""Fixtures of the database tests: the application's own client, a second version of Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from migrations import typeorm
from tests import debian
from tests.migrations.node_application import compiled
from tests.servers import PostgresServer, running_installation


@pytest.fixture(scope="session")
def client_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of the application's client, compiled together with the schema's revisions."""
    directory = tmp_path_factory.mktemp("typeorm") / "migrations"
    typeorm.write(typeorm.migrations(), directory)
    with compiled(directory) as program:
        yield program


@pytest.fixture(scope="session")
def postgres15_server() -> Iterator[PostgresServer]:
    """Debian's Postgres 15, installed or unpacked."""
    try:
        installation = debian.postgres_15()
    except debian.UnavailableError as error:
        pytest.skip(f"Postgres 15 cannot be had: {error}")
    with running_installation(installation) as server:
        with psycopg.connect(server.url) as connection:
            assert connection.info.server_version // 10_000 == 15
        yield server


@pytest.fixture
def postgres15_url(postgres15_server: PostgresServer) -> Iterator[str]:
    """A fresh, empty database of it owned by a plain role, as `DATABASE_URL` wants it."""
    name, url = postgres15_server.create_database()
    yield url
    postgres15_server.drop_database(name)
