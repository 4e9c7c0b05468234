"""Merging the months' sums, against a real Postgres."""

from __future__ import annotations

from datetime import datetime

import psycopg
import pytest
from psycopg import errors

from tests.workers import tables
from workers.complexity_calculation import calculate
from workers.complexity_definition import Definition
from workers.complexity_history import ROWS_AT_A_TIME, ForeignSumsError, opinions
from workers.complexity_months import CARDS_PER_PART

DEFINITION = Definition()


def review(connection: psycopg.Connection, cards: int, at: datetime) -> None:
    """Have an actor review so many new cards."""
    actor = tables.add_actor(connection)
    connection.execute(
        "WITH card AS (INSERT INTO flashcards SELECT gen_random_uuid(), gen_random_uuid()"
        " FROM generate_series(1, %s) RETURNING id)"
        ' INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time,'
        " reviewed_at) SELECT id, %s, 3, '{}', 0, %s FROM card",
        [cards, actor, at],
    )


def found(connection: psycopg.Connection) -> int:
    with connection.transaction():
        return sum(len(card) for card, _, _ in opinions(connection, DEFINITION))


def test_every_opinion_is_there_once_however_many_rows_are_fetched_at_a_time(
    connection: psycopg.Connection,
) -> None:
    cards = CARDS_PER_PART * ROWS_AT_A_TIME
    review(connection, cards, datetime(2025, 1, 5))  # noqa: DTZ001 -- the column has no time zone
    review(connection, 100, datetime(2025, 2, 5))  # noqa: DTZ001
    calculate(connection, DEFINITION)
    assert found(connection) == cards + 100
    connection.execute("TRUNCATE workers.complexity_history_months")
    assert found(connection) == cards + 100
    row = connection.execute("SELECT count(*) FROM workers.complexity_history").fetchone()
    assert row is not None
    assert row[0] >= ROWS_AT_A_TIME


def test_months_that_another_version_of_the_workers_summed_up_are_never_read(
    connection: psycopg.Connection,
) -> None:
    review(connection, 3, datetime(2025, 1, 5))  # noqa: DTZ001
    calculate(connection, DEFINITION)
    connection.execute("UPDATE workers.complexity_months SET definition = 'another'")
    with pytest.raises(ForeignSumsError, match="another version"):
        found(connection)
    assert calculate(connection, DEFINITION).read == 3
    assert found(connection) == 3


def test_an_error_of_writing_the_history_is_shown_and_leaves_the_one_before(
    connection: psycopg.Connection,
) -> None:
    review(connection, 3, datetime(2025, 1, 5))  # noqa: DTZ001
    review(connection, 3, datetime(2025, 2, 5))  # noqa: DTZ001
    calculate(connection, DEFINITION)
    connection.execute("UPDATE workers.complexity_history_months SET version = 0")
    connection.execute(
        "ALTER TABLE workers.complexity_history ADD CONSTRAINT full_up CHECK (false) NOT VALID"
    )
    with pytest.raises(errors.CheckViolation, match="full_up"):
        found(connection)
    assert connection.execute("SELECT FROM workers.complexity_history").rowcount == 1
    connection.execute("ALTER TABLE workers.complexity_history DROP CONSTRAINT full_up")
    assert found(connection) == 6
