"""Merging the months' sums, against a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.workers import oracle, tables, worlds
from workers import complexity_calculation, complexity_history
from workers.complexity_calculation import calculate
from workers.complexity_definition import Definition
from workers.complexity_history import ROWS_AT_A_TIME, ForeignSumsError, opinions
from workers.complexity_months import CARDS_PER_PART, number_everybody, sum_months

DEFINITION = Definition()


@pytest.fixture
def other(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """Another worker's connection."""
    address = connection.info.dsn
    with psycopg.connect(address, password=connection.info.password, autocommit=True) as another:
        yield another


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


def at(month: int, day: int = 5) -> datetime:
    return datetime(2025, month, day)  # noqa: DTZ001 -- the column has no time zone


def world(connection: psycopg.Connection) -> worlds.Stored:
    """Three cards that two actors reviewed in eight months."""
    stored = worlds.store(connection, 3, [(0, 1, 1.0), (1, 2, 1.0)], {0: 0.4, 1: 0.6})
    stored.insert(
        connection,
        [
            oracle.Review(actor, node, 1 + (actor + node + month) % 4, at(month, 1 + node))
            for actor in range(2)
            for node in range(3)
            for month in range(1, 9)
        ],
    )
    return stored


def test_a_month_that_somebody_sums_up_anew_meanwhile_is_not_taken_for_merged(
    connection: psycopg.Connection, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of another calculation's flow does, which waits for nobody."""
    stored = world(connection)
    calculate(connection, DEFINITION)
    connection.execute("TRUNCATE workers.complexity_history, workers.complexity_history_months")
    changed = next(key for key, review in stored.reviews.items() if review.at.month == 2)
    review = stored.reviews[changed]
    genuine = complexity_history._parts

    def parts(*arguments: Any) -> Iterator[Any]:
        for number, part in enumerate(genuine(*arguments)):
            if number == 0:
                rating = 5 - review.rating
                fresh = oracle.Review(review.actor, review.node, rating, review.at)
                stored.update(other, changed, fresh)
                assert sum_months(other, DEFINITION, [date(2025, 2, 1)]).months == 1
            yield part

    monkeypatch.setattr(complexity_history, "_parts", parts)
    calculate(connection, DEFINITION)
    monkeypatch.undo()
    # Nothing is noted any more, and this finds out by the versions of what is merged.
    assert calculate(connection, DEFINITION).read == 0
    stored.check(connection)


def test_whoever_begins_to_review_meanwhile_counts_the_next_time(
    connection: psycopg.Connection, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = world(connection)
    calculate(connection, DEFINITION)
    genuine = complexity_calculation._counts

    def counts(*arguments: Any) -> tuple[int, int]:
        found = genuine(*arguments)
        stored.actors.append(tables.add_actor(other))
        stored.log_losses[2] = None
        stored.insert(other, [oracle.Review(2, 0, 1, at(8, 20))])
        number_everybody(other)
        assert sum_months(other, DEFINITION, [date(2025, 8, 1)]).months == 1
        return found

    before = stored.expected()
    monkeypatch.setattr(complexity_calculation, "_counts", counts)
    calculate(connection, DEFINITION)
    monkeypatch.undo()
    assert worlds.scores(connection) == pytest.approx(before, abs=1e-9)
    calculate(connection, DEFINITION)
    stored.check(connection)


def test_a_review_from_a_clock_in_the_future_does_not_make_the_open_month_history(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2025, 8, 20, tzinfo=tz)

    monkeypatch.setattr(complexity_history, "datetime", Clock)
    stored = world(connection)
    stored.insert(connection, [oracle.Review(0, 0, 3, datetime(2090, 5, 5))])  # noqa: DTZ001
    calculate(connection, DEFINITION)
    months = connection.execute(
        "SELECT month FROM workers.complexity_history_months ORDER BY month"
    ).fetchall()
    assert months == [(date(2025, month, 1),) for month in range(1, 8)]
    stored.insert(connection, [oracle.Review(1, 1, 4, at(8, 15))])
    file = "SELECT pg_relation_filenode('workers.complexity_history')"
    before = connection.execute(file).fetchone()
    calculate(connection, DEFINITION)
    assert connection.execute(file).fetchone() == before
    monkeypatch.setattr(worlds, "NOW", datetime(2090, 6, 1))  # noqa: DTZ001
    stored.check(connection)
