from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from history.population import apportioned, draw_learners


@given(
    st.lists(st.floats(0.001, 1000), min_size=1, max_size=50).flatmap(
        lambda weight: st.tuples(st.just(weight), st.integers(len(weight), 100_000))
    )
)
def test_shares_sum_to_the_total_and_none_is_empty(drawn: tuple[list[float], int]) -> None:
    weight, total = drawn
    share = apportioned(total, np.array(weight))
    assert share.sum() == total
    assert share.min() >= 1


@given(st.floats(1, 100), st.floats(1, 100), st.integers(2, 10_000))
def test_shares_follow_the_weights(first: float, second: float, total: int) -> None:
    share = apportioned(total, np.array([first, second]))
    exact = 1 + first / (first + second) * (total - 2)
    assert abs(share[0] - exact) < 1 + 1e-6


def test_learners_begin_and_end_within_the_period() -> None:
    learners, _ = draw_learners(np.random.default_rng(1), actors=500, reviews=10_000, days=90)
    assert learners.first_day.min() >= 0
    assert (learners.last_day >= learners.first_day).all()
    assert learners.last_day.max() < 90
    assert learners.reviews.sum() == 10_000
