"""FSRS parameters of one learner: from reviews to training items, trained and judged.

The conventions are those of fsrs-rs and Anki: an item is a prefix of one card's reviews that ends
with a review on a later day than the one before (`delta_t` > 0), that review being the one
predicted; reviews within a day have `delta_t` 0 and stay in the history, for FSRS-6 models
same-day reviews too. Items are in order of time, later ones count more in training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Literal, NamedTuple

from fsrs_rs_python import DEFAULT_PARAMETERS, FSRS, FSRSItem, FSRSReview, TrainingConfig

# fsrs-rs trains on no longer histories, and their prefixes would grow with the square.
MAXIMUM_HISTORY = 256
# Bounds the memory: some hundred bytes an item. Cards come in order of random ids, so that those of
# the first so many items are a fair sample of a learner's.
MAXIMUM_ITEMS = 300_000
# Told which items are of one card, the trainer runs through each card once for all its items, at a
# fraction of the cost, and counts a batch in cards. Its default of 512 would then leave most
# learners with one step an epoch.
CARDS_A_BATCH = 32
# Of the segments of the time series split the last two are predicted from all before them.
SEGMENTS = 4

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- the column has no time zone, and is UTC
_MICROSECOND = timedelta(microseconds=1)
_DAY = 86_400_000_000


class Review(NamedTuple):
    """One review: its card (any sortable key), when it was (UTC) and the grade, 1 to 4."""

    card: str
    reviewed_at: datetime
    rating: int


class History(NamedTuple):
    """One card's reviews in order: when, in microseconds since 1970 (UTC), and the grades."""

    times: Sequence[int]
    ratings: Sequence[int]


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


def histories(reviews: Iterable[Review]) -> Iterator[History]:
    """Return the history of each card, of reviews ordered by card and time."""
    for _, of_card in groupby(reviews, attrgetter("card")):
        found = list(of_card)
        yield History(
            [(review.reviewed_at - _EPOCH) // _MICROSECOND for review in found],
            [review.rating for review in found],
        )


def training_set(reviews: Iterable[Review]) -> TrainingSet:
    """Return the training items of one learner's reviews, ordered by card and time."""
    return training_set_of(histories(reviews))


def training_set_of(cards: Iterable[History]) -> TrainingSet:
    """Return the training items of one learner's cards.

    Of a learner with very many, cards that come when there are `MAXIMUM_ITEMS` are only counted.
    """
    found: list[tuple[int, int, FSRSItem]] = []
    total = 0
    for number, (times, ratings) in enumerate(cards):
        total += len(times)
        if len(found) >= MAXIMUM_ITEMS:
            continue
        prefix: list[FSRSReview] = []
        previous_day = times[0] // _DAY
        for time, rating in zip(times[:MAXIMUM_HISTORY], ratings, strict=False):
            day = time // _DAY
            elapsed = day - previous_day
            previous_day = day
            prefix.append(FSRSReview(rating, elapsed))
            if elapsed > 0:
                found.append((time, number, FSRSItem(prefix)))
    found.sort(key=itemgetter(0, 1))
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
