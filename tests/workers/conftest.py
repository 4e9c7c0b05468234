"""Fixtures of the tests of the workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.workers import tables
from tests.workers.programs import Producer, Programs, programs_on
from workers.settings import COMPLEXITY_QUEUE, FSRS_QUEUE


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a fresh database with the application's tables, in autocommit."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(tables.DDL)
        yield connection


@pytest.fixture
def programs(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Programs]:
    """Starts the programs of `workers` on the test's database and Valkey."""
    with programs_on(database_url, redis_url, tmp_path) as programs:
        yield programs


@pytest.fixture
def fsrs_queue(redis_url: str) -> Producer:
    return Producer(redis_url, FSRS_QUEUE)


@pytest.fixture
def complexity_queue(redis_url: str) -> Producer:
    return Producer(redis_url, COMPLEXITY_QUEUE)
