"""FSRS-6, the memory model of the platform, computed for many cards at once.

Source of the formulas: "The Algorithm", section FSRS-6, in the wiki of
open-spaced-repetition/fsrs4anki, with the bounds and the whole-day clock of open-spaced-repetition/
fsrs-rs (`model.rs`), which `fsrs_rs_python` wraps. That library computes one card at a time and
knows no forgetting curve per review, hence these.

Everywhere `weights` has the shape (21, n), one column a card, or (21, 1) for weights all share;
other arrays have the shape (n,). Stability is in days, difficulty lies in [1, 10], a rating is
1 Again, 2 Hard, 3 Good, 4 Easy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from fsrs_rs_python import DEFAULT_PARAMETERS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DEFAULT_WEIGHTS: Floats = np.array(DEFAULT_PARAMETERS, dtype=np.float64)[:, np.newaxis]

_STABILITY_BOUNDS = (0.001, 36_500.0)
_DIFFICULTY_BOUNDS = (1.0, 10.0)


class MemoryState(NamedTuple):
    """What is remembered of each card: stability in days, and difficulty."""

    stability: Floats
    difficulty: Floats


def retrievability(weights: Floats, days: Floats, stability: Floats) -> Floats:
    """Return the probability of recall after `days`: the power forgetting curve.

    R(t, S) = (1 + factor · t / S) ^ -w20, where factor = 0.9 ^ (-1 / w20) - 1 makes R(S, S) = 0.9.
    """
    decay = -weights[20]
    factor = 0.9 ** (1 / decay) - 1
    return (1 + factor * days / stability) ** decay


def interval(weights: Floats, stability: Floats, retention: Floats) -> Floats:
    """Return the days after which retrievability has fallen to `retention`.

    I(r, S) = S / factor · (r ^ (-1 / w20) - 1), the forgetting curve solved for t.
    """
    decay = -weights[20]
    factor = 0.9 ** (1 / decay) - 1
    return stability / factor * (retention ** (1 / decay) - 1)


def first_state(weights: Floats, rating: Integers) -> MemoryState:
    """Return the memory after a card's first review.

    S0(G) = w[G - 1]; D0(G) = w4 - e ^ (w5 · (G - 1)) + 1.
    """
    stability = np.choose(rating - 1, weights[:4])
    return _bounded(stability, _first_difficulty(weights, rating))


def next_state(
    weights: Floats, before: MemoryState, rating: Integers, days: Integers
) -> MemoryState:
    """Return the memory after a review, `days` calendar days after the card's last one.

    Stability of another day, with R at that day:
    - recalled: S · (1 + e^w8 · (11 - D) · S^-w9 · (e^(w10 · (1 - R)) - 1) · w15 if Hard · w16 if
      Easy);
    - forgotten: min(w11 · D^-w12 · ((S + 1)^w13 - 1) · e^(w14 · (1 - R)), S / e^(w17 · w18)).

    Stability of the same day: S · e^(w17 · (G - 3 + w18)) · S^-w19, not less than S unless Again.

    Difficulty: D' = D - w6 · (G - 3) · (10 - D) / 9 (linear damping), then
    w7 · D0(4) + (1 - w7) · D' (mean reversion).
    """
    w = weights
    stability, difficulty = before
    forgotten = 1 - retrievability(w, days.astype(np.float64), stability)
    bonus = np.where(rating == 2, w[15], np.where(rating == 4, w[16], 1.0))
    growth = np.exp(w[8]) * (11 - difficulty) * stability ** -w[9] * np.expm1(w[10] * forgotten)
    recalled_stability = stability * (1 + growth * bonus)
    lapsed_stability: Floats = np.minimum(
        w[11] * difficulty ** -w[12] * ((stability + 1) ** w[13] - 1) * np.exp(w[14] * forgotten),
        stability / np.exp(w[17] * w[18]),
    )
    change: Floats = np.exp(w[17] * (rating - 3 + w[18])) * stability ** -w[19]
    same_day_change: Floats = np.maximum(change, np.where(rating == 1, 0.0, 1.0))
    damped = difficulty - w[6] * (rating - 3) * (10 - difficulty) / 9
    easiest = _first_difficulty(w, np.full_like(rating, 4))
    return _bounded(
        np.where(
            days == 0,
            stability * same_day_change,
            np.where(rating == 1, lapsed_stability, recalled_stability),
        ),
        w[7] * easiest + (1 - w[7]) * damped,
    )


def _first_difficulty(weights: Floats, rating: Integers) -> Floats:
    return weights[4] - np.exp(weights[5] * (rating - 1)) + 1


def _bounded(stability: Floats, difficulty: Floats) -> MemoryState:
    return MemoryState(
        np.clip(stability, *_STABILITY_BOUNDS), np.clip(difficulty, *_DIFFICULTY_BOUNDS)
    )
