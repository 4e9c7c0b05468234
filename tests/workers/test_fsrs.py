"""Training items and the choice of parameters."""

from __future__ import annotations

import math
import random
import re
from datetime import datetime, timedelta

import psycopg
import pytest
from fsrs_rs_python import DEFAULT_PARAMETERS

from tests.workers import tables
from workers import fsrs
from workers.fsrs import Review
from workers.fsrs_optimization import read_training_set

DAY = datetime(2025, 3, 1, 12)  # noqa: DTZ001 -- the column has no time zone


def histories(data: fsrs.TrainingSet) -> list[list[tuple[int, int]]]:
    # The trainer's reviews show what they hold, but only so.
    shown = [re.findall(r"rating: (\d+), delta_t: (\d+)", repr(item)) for item in data.items]
    return [[(int(rating), int(days)) for rating, days in item] for item in shown]


def test_elapsed_days_are_calendar_days_and_same_day_reviews_stay_in_the_history() -> None:
    reviews = [
        Review("a", DAY, 1),
        Review("a", DAY + timedelta(minutes=10), 3),  # the same day: nothing to predict
        Review("a", DAY + timedelta(hours=12, minutes=1), 3),  # after midnight: one day
        Review("a", DAY + timedelta(days=5), 4),
    ]
    data = fsrs.training_set(reviews)
    first = [(1, 0), (3, 0), (3, 1)]
    assert histories(data) == [first, [*first, (4, 4)]]
    assert data.reviews == 4


def test_items_of_all_cards_are_in_order_of_time_and_know_their_card() -> None:
    reviews = [
        Review("a", DAY, 3),
        Review("a", DAY + timedelta(days=9), 3),
        Review("b", DAY + timedelta(days=1), 2),
        Review("b", DAY + timedelta(days=2), 1),
    ]
    data = fsrs.training_set(reviews)
    assert histories(data) == [[(2, 0), (1, 1)], [(3, 0), (3, 9)]]
    assert data.cards == [1, 0]


def test_a_card_reviewed_without_end_does_not_grow_the_items_without_end() -> None:
    reviews = [Review("a", DAY + timedelta(days=day), 3) for day in range(1000)]
    data = fsrs.training_set(reviews)
    assert len(data.items) == fsrs.MAXIMUM_HISTORY - 1
    assert data.reviews == 1000


def test_of_a_learner_with_very_many_reviews_the_first_cards_are_taken_and_all_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fsrs, "MAXIMUM_ITEMS", 40)
    reviews = [
        Review(f"{card:03}", DAY + timedelta(days=card + day), 3)
        for card in range(100)
        for day in (0, 1, 3, 6)
    ]
    data = fsrs.training_set(reviews)
    assert data.reviews == 400
    assert len(data.items) == 42  # whole cards of three items each
    assert set(data.cards) == set(range(14))


def test_the_database_s_reviews_give_the_same_items_as_reviews_in_memory(
    connection: psycopg.Connection,
) -> None:
    actor = tables.add_learner(connection, 700)
    tables.add_learner(connection, 300, seed=2)
    connection.execute(
        "UPDATE review_logs SET reviewed_at = CASE WHEN random() < 0.5"
        " THEN date_trunc('day', reviewed_at) + interval '23:59:59.999999'"
        " ELSE date_trunc('day', reviewed_at) END WHERE random() < 0.2"
    )
    connection.execute(
        "UPDATE review_logs SET reviewed_at = 'infinity' WHERE id IN (SELECT id FROM"
        ' review_logs WHERE "actorId" = %s LIMIT 3)',
        [actor],
    )
    rows = connection.execute(
        'SELECT "flashcardId"::text, reviewed_at, rating FROM review_logs'
        ' WHERE "actorId" = %s AND isfinite(reviewed_at) ORDER BY 1, 2, id',
        [actor],
    ).fetchall()
    expected = fsrs.training_set(Review(*row) for row in rows)
    read = read_training_set(connection, actor)
    assert (read.reviews, read.cards) == (expected.reviews, expected.cards)
    assert read.reviews == 697
    assert histories(read) == histories(expected)


def simulated(cards: int, forgetting: float) -> fsrs.TrainingSet:
    """A learner whose recall falls to (1 - forgetting) with each day, whatever the card."""
    chance = random.Random(4)
    reviews: list[Review] = []
    for number in range(cards):
        at, interval = DAY + timedelta(days=number % 50), 0
        for _ in range(6):
            recalled = chance.random() < (1 - forgetting) ** interval
            reviews.append(Review(f"{number:05}", at, 3 if recalled else 1))
            interval = max(1, interval * 2) if recalled else 1
            at += timedelta(days=interval)
    return fsrs.training_set(reviews)


def test_a_learner_who_forgets_fast_gets_better_weights_of_their_own() -> None:
    best = fsrs.optimize(simulated(300, 0.2))
    assert best.outcome == "trained"
    assert len(best.weights) == 21
    assert best.fit.log_loss < best.default_fit.log_loss * 0.95
    assert math.isfinite(best.fit.rmse_bins)


def test_chance_alone_leaves_the_default_weights() -> None:
    # Six reviews are nothing to learn from, whatever the trainer makes of them.
    best = fsrs.optimize(simulated(1, 0.02))
    assert best.outcome == "kept_default"
    assert best.weights == pytest.approx(DEFAULT_PARAMETERS)
    assert best.fit == best.default_fit
