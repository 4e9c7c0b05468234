"""Fixtures of the database tests: a second version of Postgres."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests import debian
from tests.servers import PostgresServer, running_installation


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
