"""FSRS parameters of one learner: from reviews to training items, trained and judged.

The conventions are those of fsrs-rs and Anki: an item is a prefix of one card's reviews that ends
with a review on a later day than the one before (`delta_t` > 0), that review being the one
predicted; reviews within a day have `delta_t` 0 and stay in the history, for FSRS-6 models
same-day reviews too. Items are in order of time, later ones count more in training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Literal, NamedTuple

from fsrs_rs_python import DEFAULT_PARAMETERS, FSRS, FSRSItem, FSRSReview, TrainingConfig

# fsrs-rs trains on no longer histories, and their prefixes would grow with the square.
MAXIMUM_HISTORY = 256
# Told which items are of one card, the trainer runs through each card once for all its items, at a
# fraction of the cost, and counts a batch in cards. Its default of 512 would then leave most
# learners with one step an epoch.
CARDS_A_BATCH = 32
# Of the segments of the time series split the last two are predicted from all before them.
SEGMENTS = 4


class Review(NamedTuple):
    """One review: its card (any sortable key), when it was (UTC) and the grade, 1 to 4."""

    card: str
    reviewed_at: datetime
    rating: int


@dataclass(frozen=True)
class TrainingSet:
    """Items in order of time and, for each, the number of its card."""

    items: list[FSRSItem]
    cards: list[int]
    reviews: int

    def part(self, start: int, stop: int) -> TrainingSet:
        return TrainingSet(self.items[start:stop], self.cards[start:stop], self.reviews)


@dataclass(frozen=True)
class Fit:
    """How well parameters predict a learner's reviews: lower is better for both."""

    log_loss: float
    rmse_bins: float


@dataclass(frozen=True)
class Optimization:
    """The parameters to use, how well they fit, and how well the default ones do."""

    outcome: Literal["trained", "kept_default"]
    reason: str
    weights: list[float]
    fit: Fit
    default_fit: Fit
    items: int


class TrainingError(Exception):
    """The trainer rejected the data; the message is the trainer's."""


def training_set(reviews: Iterable[Review]) -> TrainingSet:
    """Return the training items of one learner's reviews, ordered by card and time."""
    found: list[tuple[datetime, int, FSRSItem]] = []
    total = 0
    for number, (_, history) in enumerate(groupby(reviews, attrgetter("card"))):
        prefix: list[FSRSReview] = []
        previous_day: int | None = None
        for review in history:
            total += 1
            day = review.reviewed_at.toordinal()
            elapsed = 0 if previous_day is None else day - previous_day
            previous_day = day
            if len(prefix) == MAXIMUM_HISTORY:
                continue
            prefix.append(FSRSReview(review.rating, elapsed))
            if elapsed > 0:
                found.append((review.reviewed_at, number, FSRSItem(prefix)))
    found.sort(key=lambda entry: entry[:2])
    return TrainingSet([item for *_, item in found], [card for _, card, _ in found], total)


def train(data: TrainingSet) -> list[float]:
    """Return the 21 trained weights. Raises TrainingError."""
    try:
        return list(
            FSRS([]).compute_parameters(
                data.items,
                card_ids=data.cards,
                training_config=TrainingConfig(batch_size=CARDS_A_BATCH),
            )
        )
    except ValueError as error:
        raise TrainingError(f"the trainer rejects the reviews: {error}") from None


def evaluate(weights: Sequence[float], data: TrainingSet) -> Fit:
    """Return how well the weights predict the items. Raises TrainingError."""
    try:
        evaluation = FSRS(weights).evaluate(data.items)
    except ValueError as error:
        raise TrainingError(f"the trainer cannot evaluate the reviews: {error}") from None
    if not (math.isfinite(evaluation.log_loss) and math.isfinite(evaluation.rmse_bins)):
        raise TrainingError("the evaluation gives no finite loss")
    return Fit(evaluation.log_loss, evaluation.rmse_bins)


def generalises(data: TrainingSet) -> bool:
    """Tell whether training predicts reviews it has not seen at least as well as the default.

    An expanding time series split: the third quarter of the items is predicted by weights trained
    on the first two, the fourth by weights trained on the first three.
    """
    size = len(data.items) // SEGMENTS
    trained_loss = default_loss = 0.0
    for start in range((SEGMENTS - 2) * size, SEGMENTS * size, size):
        seen, unseen = data.part(0, start), data.part(start, start + size)
        trained_loss += evaluate(train(seen), unseen).log_loss
        default_loss += evaluate(DEFAULT_PARAMETERS, unseen).log_loss
    return trained_loss <= default_loss


def optimize(data: TrainingSet) -> Optimization:
    """Train on the items and keep the result only if it is better than the default weights.

    Raises TrainingError if there are no items, or if the trainer rejects them.
    """
    default_fit = evaluate(DEFAULT_PARAMETERS, data)
    weights = train(data)
    fit = evaluate(weights, data)
    if fit.log_loss >= default_fit.log_loss:
        reason = "the trained weights fit no better than the default ones"
    elif len(data.items) < SEGMENTS or not generalises(data):
        reason = "the trained weights predict unseen reviews worse than the default ones"
    else:
        reason = "the trained weights fit better"
        return Optimization("trained", reason, weights, fit, default_fit, len(data.items))
    return Optimization(
        "kept_default", reason, list(DEFAULT_PARAMETERS), default_fit, default_fit, len(data.items)
    )
