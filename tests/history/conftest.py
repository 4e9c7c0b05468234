"""Fixtures of the tests of the history."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.history import tables


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a fresh database with the application's tables, in autocommit."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(tables.DDL)
        yield connection
