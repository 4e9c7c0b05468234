from __future__ import annotations

from datetime import date

import numpy as np
import psycopg
import pytest
from fsrs_rs_python import DEFAULT_PARAMETERS, FSRS, FSRSItem, FSRSReview
from hypothesis import given
from hypothesis import strategies as st

from history.loading import load
from history.simulation import first_day, simulate
from history.sources import Simulated
from tests.history.helpers import END, Silent, load_simulated, numbers, value

# Each counts what must not be.
VIOLATIONS = {
    "an actor without a review": """
        SELECT count(*) FROM actors WHERE id NOT IN (SELECT "actorId" FROM review_logs)""",
    "a review before its actor": """
        SELECT count(*) FROM review_logs AS r JOIN actors AS a ON a.id = r."actorId"
        WHERE reviewed_at < "createdAt" """,
    "a review outside the period": """
        SELECT count(*) FROM review_logs
        WHERE reviewed_at < '2025-01-01' OR reviewed_at >= '2025-07-01'""",
    "a rating that is none": "SELECT count(*) FROM review_logs WHERE rating NOT BETWEEN 1 AND 4",
    "a state with other keys": """
        SELECT count(*) FROM review_logs
        WHERE state - '{stability,difficulty}'::text[] <> '{}'
        OR NOT state ?& '{stability,difficulty}'""",
    "a state out of bounds": """
        SELECT count(*) FROM review_logs
        WHERE (state ->> 'stability')::numeric NOT BETWEEN 0.001 AND 36500
        OR (state ->> 'difficulty')::numeric NOT BETWEEN 1 AND 10""",
    "a previous state with other keys": """
        SELECT count(*) FROM review_logs
        WHERE "previousState" - '{difficulty,stability,retrievability}'::text[] <> '{}'
        OR NOT "previousState" ?& '{difficulty,stability,retrievability}'""",
    "a retrievability that is no probability": """
        SELECT count(*) FROM review_logs
        WHERE ("previousState" ->> 'retrievability')::numeric NOT BETWEEN 0 AND 1""",
    "a due date not after the review": """
        SELECT count(*) FROM review_logs WHERE scheduled_on <= reviewed_at""",
    "an old row with a previous state": """
        SELECT count(*) FROM review_logs
        WHERE reviewed_at < '2025-02-15' AND "previousState" IS NOT NULL""",
    "a new row without a previous state": """
        SELECT count(*) FROM review_logs
        WHERE reviewed_at >= '2025-02-16' AND "previousState" IS NULL""",
    "a flashcard without its node": """
        SELECT count(*) FROM flashcards WHERE "activityPubId" NOT IN (
            SELECT properties ->> 'flashcardId' FROM nodes WHERE type = 'Flashcard')""",
    "a flashcard node that tests no concept": """
        SELECT count(*) FROM nodes AS f WHERE type = 'Flashcard' AND NOT EXISTS (
            SELECT FROM edges AS e JOIN nodes AS c ON c.id = "targetId" AND c.type = 'Concept'
            WHERE "sourceId" = f.id AND e.type = 'TESTS')""",
    "a weight out of bounds": """
        SELECT count(*) FROM edges WHERE (properties ->> 'weight')::numeric NOT BETWEEN 0 AND 1""",
}

# Of each review, what its card's review before says; that has no row for a first review.
CHAIN = """
WITH chained AS (
    SELECT *, lag(reviewed_at) OVER card AS last_at, lag(state) OVER card AS last_state
    FROM review_logs WINDOW card AS (PARTITION BY "actorId", "flashcardId" ORDER BY reviewed_at)
)
"""
CHAIN_VIOLATIONS = {
    "a first review with time elapsed": """
        SELECT count(*) FROM chained WHERE last_at IS NULL AND elapsed_time <> 0""",
    "a later review with another time elapsed than since the last": """
        SELECT count(*) FROM chained
        WHERE elapsed_time <> extract(epoch FROM reviewed_at - last_at)""",
    "a first review with a memory before": """
        SELECT count(*) FROM chained WHERE last_at IS NULL
        AND "previousState" <> '{"difficulty": 1, "stability": 0, "retrievability": 1}'""",
    "a later review with another memory before than after the last": """
        SELECT count(*) FROM chained
        WHERE "previousState" - 'retrievability' <> last_state""",
}


@pytest.mark.parametrize(("actors", "reviews"), [(1, 1), (7, 7), (3, 500), (40, 3_001)])
def test_history_has_exactly_as_many_actors_and_reviews_as_asked_for(
    connection: psycopg.Connection, actors: int, reviews: int
) -> None:
    load_simulated(connection, actors=actors, reviews=reviews)
    assert value(connection, "SELECT count(*) FROM actors") == actors
    assert value(connection, 'SELECT count(DISTINCT "actorId") FROM review_logs') == actors
    assert value(connection, "SELECT count(*) FROM review_logs") == reviews


def test_history_looks_as_if_the_application_had_recorded_it(
    connection: psycopg.Connection,
) -> None:
    load_simulated(connection)
    checks = {**VIOLATIONS, **{name: CHAIN + query for name, query in CHAIN_VIOLATIONS.items()}}
    found = {name: value(connection, query) for name, query in checks.items()}
    assert found == dict.fromkeys(checks, 0)
    # And the checks had something to look at.
    assert value(connection, "SELECT count(*) FROM review_logs WHERE elapsed_time > 0") > 500
    for state in ("NULL", "NOT NULL"):
        query = f'SELECT count(*) FROM review_logs WHERE "previousState" IS {state}'
        assert value(connection, query) > 50


def test_prerequisites_have_no_cycle(connection: psycopg.Connection) -> None:
    load_simulated(connection, reviews=5_000)
    longest = value(
        connection,
        """WITH RECURSIVE paths AS (
            SELECT "targetId" AS id, 1 AS length FROM edges WHERE type = 'PREREQUISITE'
            UNION SELECT "targetId", length + 1 FROM paths JOIN edges ON "sourceId" = paths.id
            WHERE type = 'PREREQUISITE' AND length < 1000
        ) SELECT max(length) FROM paths""",
    )
    assert 1 < longest < value(connection, "SELECT count(*) FROM nodes WHERE type = 'Concept'")


def test_one_actor_alone_makes_cards_of_their_own_when_all_are_learnt(
    connection: psycopg.Connection,
) -> None:
    load_simulated(connection, actors=1, reviews=4_000, months=1)
    assert numbers(connection)["review_logs"] == 4_000


def rows_of(source: Simulated, end: date = END) -> list[tuple[str, str]]:
    return [(rows.table, line) for rows in simulate(source, end) for line in rows.lines]


def test_the_same_seed_gives_the_same_rows_of_every_table() -> None:
    source = Simulated(actors=5, reviews=300, months=2, seed=3)
    assert rows_of(source) == rows_of(source)


def test_another_seed_gives_other_rows() -> None:
    one, two = (
        set(rows_of(Simulated(actors=5, reviews=300, months=2, seed=seed))) for seed in (1, 2)
    )
    assert not one & two


def test_batches_do_not_change_how_many_reviews_there_are(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("history.simulation.REVIEWS_A_BATCH", 300)
    load_simulated(connection)
    assert numbers(connection)["review_logs"] == 2_000
    assert value(connection, 'SELECT count(DISTINCT "actorId") FROM review_logs') == 12


@given(st.dates(date(1990, 1, 1), date(2200, 1, 1)), st.integers(1, 240))
def test_first_day_lies_as_many_calendar_months_before_the_end(end: date, months: int) -> None:
    start = first_day(end, months)
    assert (end.year - start.year) * 12 + end.month - start.month == months
    assert start.day == end.day or (start.day < end.day and _is_last_of_month(start))


def _is_last_of_month(day: date) -> bool:
    return date.fromordinal(day.toordinal() + 1).day == 1


def test_training_on_a_learners_history_predicts_it_better_than_the_default(
    connection: psycopg.Connection,
) -> None:
    source = Simulated(actors=10, reviews=20_000, months=12, seed=5)
    load(connection, simulate(source, END), Silent())
    busiest = connection.execute(
        'SELECT "actorId" FROM review_logs GROUP BY 1 ORDER BY count(*) DESC LIMIT 3'
    ).fetchall()
    for (actor,) in busiest:
        items = _items(connection, actor)
        trained = FSRS(DEFAULT_PARAMETERS).compute_parameters(items)
        gain = (
            FSRS(DEFAULT_PARAMETERS).evaluate(items).log_loss
            - FSRS(trained).evaluate(items).log_loss
        )
        assert gain > 0.001


def _items(connection: psycopg.Connection, actor: object) -> list[FSRSItem]:
    """Return one item per review of another day than the card's last, as FSRS trains on them."""
    cards: dict[object, list[tuple[int, np.datetime64]]] = {}
    for card, rating, at in connection.execute(
        'SELECT "flashcardId", rating, reviewed_at FROM review_logs'
        ' WHERE "actorId" = %s ORDER BY reviewed_at',
        [actor],
    ):
        cards.setdefault(card, []).append((rating, np.datetime64(at, "D")))
    items: list[FSRSItem] = []
    for reviews in cards.values():
        days = [0, *np.diff([day for _, day in reviews]).astype(int).tolist()]
        steps = [FSRSReview(rating, day) for (rating, _), day in zip(reviews, days, strict=True)]
        items += [FSRSItem(steps[: i + 1]) for i, day in enumerate(days) if day > 0]
    return items
