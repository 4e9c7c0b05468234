from __future__ import annotations

import numpy as np
import pytest
from fsrs_rs_python import DEFAULT_PARAMETERS, FSRS, FSRSItem, FSRSReview
from hypothesis import given
from hypothesis import strategies as st

from history.fsrs import (
    DEFAULT_WEIGHTS,
    Integers,
    MemoryState,
    first_state,
    interval,
    next_state,
    retrievability,
)
from history.population import HIGHEST_WEIGHTS, LOWEST_WEIGHTS

# Around the default, within the bounds of training: the reference forces weights into them.
weights = st.lists(st.floats(0.8, 1.2), min_size=21, max_size=21).map(
    lambda factors: np.clip(
        np.array(DEFAULT_PARAMETERS) * factors, LOWEST_WEIGHTS, HIGHEST_WEIGHTS
    ).tolist()
)
histories = st.lists(
    st.tuples(st.integers(1, 4), st.one_of(st.just(0), st.integers(0, 400))),
    min_size=1,
    max_size=12,
)


def one(number: int) -> Integers:
    return np.array([number])


@given(weights, histories)
def test_memory_after_any_history_is_that_of_the_reference_implementation(
    values: list[float], history: list[tuple[int, int]]
) -> None:
    column = np.array(values)[:, np.newaxis]
    state = first_state(column, one(history[0][0]))
    for rating, days in history[1:]:
        state = next_state(column, state, one(rating), one(days))

    reviews = [FSRSReview(rating, days if i else 0) for i, (rating, days) in enumerate(history)]
    expected = FSRS(values).memory_state(FSRSItem(reviews))
    # The reference computes in single precision.
    assert state.stability[0] == pytest.approx(expected.stability, rel=2e-3)
    assert state.difficulty[0] == pytest.approx(expected.difficulty, rel=2e-3)


@given(st.floats(0.01, 30_000), st.floats(1, 10), st.integers(1, 4), st.integers(0, 1000))
def test_next_state_is_that_of_the_reference_implementation(
    stability: float, difficulty: float, rating: int, days: int
) -> None:
    from fsrs_rs_python import MemoryState as ReferenceState

    before = MemoryState(np.array([stability]), np.array([difficulty]))
    after = next_state(DEFAULT_WEIGHTS, before, one(rating), one(days))

    states = FSRS(DEFAULT_PARAMETERS).next_states(ReferenceState(stability, difficulty), 0.9, days)
    expected = [states.again, states.hard, states.good, states.easy][rating - 1].memory
    assert after.stability[0] == pytest.approx(expected.stability, rel=2e-3)
    assert after.difficulty[0] == pytest.approx(expected.difficulty, rel=2e-3)


@given(weights, st.floats(0.01, 36_500), st.floats(0.5, 0.99))
def test_interval_is_when_retrievability_has_fallen_to_the_retention(
    values: list[float], stability: float, retention: float
) -> None:
    column = np.array(values)[:, np.newaxis]
    days = interval(column, np.array([stability]), np.array([retention]))
    assert retrievability(column, days, np.array([stability]))[0] == pytest.approx(retention)


@given(st.floats(0.01, 36_500))
def test_retrievability_after_as_many_days_as_the_stability_is_nine_in_ten(
    stability: float,
) -> None:
    days = np.array([stability])
    assert retrievability(DEFAULT_WEIGHTS, days, days)[0] == pytest.approx(0.9)


def test_cards_are_computed_independently_of_each_other() -> None:
    before = MemoryState(np.array([2.0, 50.0]), np.array([3.0, 8.0]))
    both = next_state(DEFAULT_WEIGHTS, before, np.array([3, 1]), np.array([4, 0]))
    for card, (rating, days) in enumerate([(3, 4), (1, 0)]):
        alone = MemoryState(before.stability[[card]], before.difficulty[[card]])
        after = next_state(DEFAULT_WEIGHTS, alone, one(rating), one(days))
        assert after.stability[0] == both.stability[card]
        assert after.difficulty[0] == both.difficulty[card]
