"""Simulated learners: a review history as the application would have recorded it.

Each learner's memory follows FSRS-6 with weights of their own, made harder or easier by the card;
recall is drawn from the forgetting curve of that memory. The application knows nothing of it: it
schedules reviews by FSRS-6 with the default weights, and what it believes is what the rows hold.
So there is something to find out: training recovers the learners' weights, and hard concepts show
as failures at high predicted recall.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from fsrs_rs_python import default_simulator_config

from history.fsrs import (
    DEFAULT_WEIGHTS,
    Floats,
    Integers,
    MemoryState,
    first_state,
    interval,
    next_state,
    retrievability,
)
from history.graph import concept_rows, flashcard_node_rows, prerequisite_rows
from history.population import Flashcards, Learners, draw_learners, reviews_a_flashcard
from history.rows import Reviews, Rows, actor_rows, flashcard_rows, review_rows, uuids
from history.sources import Simulated

REVIEWS_A_BATCH = 250_000
_CALENDAR_CELLS_A_BATCH = 4_000_000
_SHARE_WITHOUT_PREVIOUS = 0.25
"""The part of the period, from its start, whose rows have no `previousState` yet."""

_SECONDS_PER_DAY = 86_400
_SAME_DAY_SECONDS = (60, 1_200)
_REPEATS_FAILED = 0.8
_INTERVAL_FUZZ = 0.05
_INITIAL_STABILITY_PER_HARDNESS = -0.5
_INITIAL_DIFFICULTY_PER_HARDNESS = 1.2
_GRADE_PER_HARDNESS = 0.4

# Streams of random numbers; each is its own, so that a batch does not depend on those before it.
_POPULATION, _ACTORS, _FLASHCARDS, _GRAPH, _BATCH = range(5)


def first_day(end: date, months: int) -> date:
    """Return the day `months` calendar months before `end`, the last of a shorter month."""
    year, month = divmod(end.year * 12 + end.month - 1 - months, 12)
    following = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    last = (following - date(year, month + 1, 1)).days
    return date(year, month + 1, min(end.day, last))


def end_of(source: Simulated) -> date:
    """Return the first day without reviews: the given one, or today (UTC)."""
    return source.end or datetime.now(UTC).date()


def simulate(source: Simulated, end: date) -> Iterator[Rows]:
    """Yield all rows of a simulated history that ends before `end`, parents before children.

    Reviews come in batches of whole actors, in the order of time within a batch. Memory is bounded
    by a batch (250,000 reviews) or the busiest actor, whichever is more.
    """
    start = first_day(end, source.months)
    days = (end - start).days
    learners, pool = draw_learners(
        _stream(source.seed, _POPULATION), source.actors, source.reviews, days
    )
    midnight = np.datetime64(start, "s")
    actors = uuids(_stream(source.seed, _ACTORS), len(learners))
    yield from actor_rows(actors, midnight + learners.first_day * _SECONDS_PER_DAY)

    generator = _stream(source.seed, _FLASHCARDS)
    flashcards = uuids(generator, len(pool))
    concepts = uuids(generator, int(pool.concept[-1]) + 1)
    yield from flashcard_rows(flashcards)
    generator = _stream(source.seed, _GRAPH)
    yield from concept_rows(concepts, [f"Concept {i + 1}" for i in range(len(concepts))])
    yield from prerequisite_rows(concepts, generator)
    yield from flashcard_node_rows(flashcards, pool.concept, concepts, generator)

    for number, batch in enumerate(_batches(learners.reviews, days)):
        generator = _stream(source.seed, _BATCH, number)
        learnt = _learn_batch(_some(learners, batch), pool, generator, start, days)
        if learnt.own_concept.size:
            own = uuids(generator, learnt.own_concept.size)
            yield from flashcard_rows(own)
            yield from flashcard_node_rows(own, learnt.own_concept, concepts, generator)
        else:
            own = []
        ids = uuids(generator, len(learnt.reviews.rating))
        yield from review_rows(learnt.reviews, ids, flashcards + own, actors[batch])


def _stream(seed: int, *key: int) -> np.random.Generator:
    # Named rather than `default_rng`, whose choice of generator may change.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _batches(reviews: Integers, days: int) -> Iterator[slice]:
    """Cut the actors into runs of about a batch's reviews, each of at least one actor."""
    most_actors = max(1, _CALENDAR_CELLS_A_BATCH // days)
    bounds = [0]
    total = 0
    for actor, count in enumerate(reviews.tolist()):
        full = total + count > REVIEWS_A_BATCH or actor - bounds[-1] >= most_actors
        if full and actor > bounds[-1]:
            bounds.append(actor)
            total = 0
        total += count
    bounds.append(len(reviews))
    return (slice(begin, stop) for begin, stop in pairwise(bounds))


def _some(learners: Learners, actors: slice) -> Learners:
    """Return the learners of a batch."""
    chosen = {
        field.name: getattr(learners, field.name)[actors]
        for field in fields(Learners)
        if field.name != "weights"
    }
    return Learners(weights=learners.weights[:, actors], **chosen)


@dataclass(frozen=True)
class _Batch:
    reviews: Reviews
    own_concept: Integers
    """The concepts of flashcards actors made themselves, having learnt all there are; they come
    after those of the pool."""


def _learn_batch(
    learners: Learners,
    pool: Flashcards,
    generator: np.random.Generator,
    start: date,
    days: int,
) -> _Batch:
    """Simulate until each learner has made exactly their number of reviews."""
    calendar = _Calendar(learners, generator, start.weekday(), days)
    count = len(learners)
    missing = learners.reviews
    begun = np.zeros(count, dtype=np.int64)
    rate = reviews_a_flashcard(learners.last_day - learners.first_day + 1)
    rounds: list[_Steps] = []
    own: list[Integers] = []
    while missing.any():
        wanted = np.ceil(missing / rate).astype(np.int64)
        first_card = _sums_before(wanted)
        actor = np.repeat(np.arange(count), wanted)
        place = begun[actor] + np.arange(actor.size) - first_card[actor]
        original = (learners.course_start[actor] + place) % len(pool)
        steps = _learn(learners, calendar, actor, pool.hardness[original], generator)
        # A learner's cards count in order until the reviews suffice; the last is given up midway.
        made = np.bincount(steps.card, minlength=actor.size)
        made_before = _sums_before(made)
        kept = np.clip(missing[actor] - (made_before - made_before[first_card[actor]]), 0, made)
        own_card = place >= len(pool)
        number = len(pool) + sum(map(len, own)) + np.cumsum(own_card) - 1
        own.append(pool.concept[original[own_card]])
        steps = steps.chosen(steps.number < kept[steps.card])
        steps.card = np.where(own_card, number, original)[steps.card]
        rounds.append(steps)
        begun += wanted
        missing = missing - np.bincount(actor, weights=kept, minlength=count).astype(np.int64)
    return _Batch(_reviews(rounds, start, days), np.concatenate(own))


def _sums_before(counts: Integers) -> Integers:
    return np.cumsum(counts) - counts


class _Calendar:
    """The days on which each learner of a batch learns."""

    def __init__(
        self, learners: Learners, generator: np.random.Generator, weekday: int, days: int
    ) -> None:
        self.days = days
        day = np.arange(days)
        chance = learners.study_chance[:, (day + weekday) % 7]
        first = learners.first_day[:, np.newaxis]
        learns = generator.random(chance.shape) < chance
        learns &= (day >= first) & (day <= learners.last_day[:, np.newaxis])
        learns |= day == first
        self._learning_days = np.nonzero(learns)[1]
        self._counts = learns.sum(axis=1)
        self._begins = _sums_before(self._counts)
        never = np.full((len(learners), 1), days)
        following = np.hstack([np.where(learns, day, days), never])
        self._next = np.minimum.accumulate(following[:, ::-1], axis=1)[:, ::-1]

    def any_day(self, actor: Integers, generator: np.random.Generator) -> Integers:
        """Draw one of each actor's days."""
        drawn = np.floor(generator.random(actor.size) * self._counts[actor]).astype(np.int64)
        return self._learning_days[self._begins[actor] + drawn]

    def next_day(self, actor: Integers, day: Integers) -> Integers:
        """Return each actor's first day from `day` on; `self.days` where there is none."""
        return self._next[actor, np.minimum(day, self.days)]


@dataclass
class _Steps:
    """Reviews of simulated cards, an entry each; times are seconds from the history's start."""

    card: Integers
    number: Integers
    """0 for the first review of a card."""
    actor: Integers
    rating: Integers
    at: Integers
    elapsed: Integers
    due: Integers
    state: MemoryState
    previous: MemoryState
    retrievability: Floats

    def chosen(self, which: npt.NDArray[np.bool_] | Integers) -> _Steps:
        """Return the reviews of a mask, or those at given positions in their order."""
        return _Steps(
            card=self.card[which],
            number=self.number[which],
            actor=self.actor[which],
            rating=self.rating[which],
            at=self.at[which],
            elapsed=self.elapsed[which],
            due=self.due[which],
            state=_states(self.state, which),
            previous=_states(self.previous, which),
            retrievability=self.retrievability[which],
        )


def _states(state: MemoryState, which: npt.NDArray[np.bool_] | Integers) -> MemoryState:
    return MemoryState(state.stability[which], state.difficulty[which])


def _joined(parts: list[_Steps]) -> _Steps:
    def joined_states(states: list[MemoryState]) -> MemoryState:
        return MemoryState(
            np.concatenate([state.stability for state in states]),
            np.concatenate([state.difficulty for state in states]),
        )

    return _Steps(
        card=np.concatenate([part.card for part in parts]),
        number=np.concatenate([part.number for part in parts]),
        actor=np.concatenate([part.actor for part in parts]),
        rating=np.concatenate([part.rating for part in parts]),
        at=np.concatenate([part.at for part in parts]),
        elapsed=np.concatenate([part.elapsed for part in parts]),
        due=np.concatenate([part.due for part in parts]),
        state=joined_states([part.state for part in parts]),
        previous=joined_states([part.previous for part in parts]),
        retrievability=np.concatenate([part.retrievability for part in parts]),
    )


def _learn(
    learners: Learners,
    calendar: _Calendar,
    actor: Integers,
    hardness: Floats,
    generator: np.random.Generator,
) -> _Steps:
    """Let each actor begin a card on one of their days and review it when due, to the end.

    `actor` and `hardness` have an entry a card. All cards take their first review together, then
    their second, and so on, fewer each time.
    """
    card = np.arange(actor.size)
    lean = learners.generosity[actor] - _GRADE_PER_HARDNESS * hardness
    at = calendar.any_day(actor, generator) * _SECONDS_PER_DAY
    at += _session_second(learners, actor, generator)
    elapsed = np.zeros_like(at)
    rating = 1 + _drawn(_FIRST_GRADES, lean, generator)
    memory = first_state(learners.weights[:, actor], rating)
    memory = MemoryState(
        np.clip(
            memory.stability * np.exp(_INITIAL_STABILITY_PER_HARDNESS * hardness), 0.001, 36_500
        ),
        np.clip(memory.difficulty + _INITIAL_DIFFICULTY_PER_HARDNESS * hardness, 1, 10),
    )
    believed = first_state(DEFAULT_WEIGHTS, rating)
    previous = MemoryState(np.zeros(actor.size), np.ones(actor.size))
    predicted = np.ones(actor.size)
    parts: list[_Steps] = []
    while True:
        now = actor[card]
        same_day = generator.random(card.size) < np.where(
            rating == 1,
            _REPEATS_FAILED,
            np.where((rating < 4) & (not parts), learners.repeats_new[now], 0.0),
        )
        scheduled = interval(DEFAULT_WEIGHTS, believed.stability, learners.retention[now])
        scheduled *= 1 + generator.uniform(-_INTERVAL_FUZZ, _INTERVAL_FUZZ, card.size)
        scheduled_days = np.clip(np.rint(scheduled), 1, 36_500).astype(np.int64)
        wait = np.where(
            same_day,
            generator.integers(*_SAME_DAY_SECONDS, card.size),
            scheduled_days * _SECONDS_PER_DAY,
        )
        due = at + wait
        parts.append(
            _Steps(
                card=card,
                number=np.full(card.size, len(parts)),
                actor=now,
                rating=rating,
                at=at,
                elapsed=elapsed,
                due=due,
                state=believed,
                previous=previous,
                retrievability=predicted,
            )
        )
        day = at // _SECONDS_PER_DAY
        another_day = calendar.next_day(now, np.maximum(due // _SECONDS_PER_DAY, day + 1))
        same_day &= due // _SECONDS_PER_DAY == day
        session = another_day * _SECONDS_PER_DAY + _session_second(learners, now, generator)
        after = np.where(same_day, due, session)
        goes_on = same_day | (another_day < calendar.days)
        if not goes_on.any():
            return _joined(parts)

        card, at, after = card[goes_on], at[goes_on], after[goes_on]
        memory, believed = _states(memory, goes_on), _states(believed, goes_on)
        now = actor[card]
        elapsed = after - at
        days = after // _SECONDS_PER_DAY - at // _SECONDS_PER_DAY
        weights = learners.weights[:, now]
        recall = retrievability(weights, elapsed / _SECONDS_PER_DAY, memory.stability)
        grade = 2 + _drawn(_PASS_GRADES, lean[card], generator)
        rating = np.where(generator.random(card.size) < recall, grade, 1)
        predicted = retrievability(DEFAULT_WEIGHTS, elapsed / _SECONDS_PER_DAY, believed.stability)
        previous = believed
        memory = next_state(weights, memory, rating, days)
        believed = next_state(DEFAULT_WEIGHTS, believed, rating, days)
        at = after


_SIMULATOR = default_simulator_config()
_FIRST_GRADES: Floats = np.array(_SIMULATOR.first_rating_prob)
_PASS_GRADES: Floats = np.array(_SIMULATOR.review_rating_prob)
"""How often grades are given, as fsrs-rs assumes: at first Again to Easy, then Hard to Easy."""


def _drawn(shares: Floats, lean: Floats, generator: np.random.Generator) -> Integers:
    """Draw a position in `shares` for each `lean`: 0 draws by the shares, more from their end."""
    odds = shares * np.exp(lean[:, np.newaxis] * np.arange(shares.size))
    sums = np.cumsum(odds, axis=1)
    drawn = generator.random((lean.size, 1)) * sums[:, -1:]
    return np.minimum((drawn >= sums).sum(axis=1), shares.size - 1)


def _session_second(
    learners: Learners, actor: Integers, generator: np.random.Generator
) -> Integers:
    """Draw seconds of the day around each actor's usual session."""
    seconds = learners.session_second[actor] + generator.normal(0.0, 2_400, actor.size)
    return np.clip(seconds, 0, _SECONDS_PER_DAY - 1).astype(np.int64)


def _reviews(rounds: list[_Steps], start: date, days: int) -> Reviews:
    """Return the reviews of a batch in the order of time."""
    steps = _joined(rounds)
    steps = steps.chosen(np.argsort(steps.at, kind="stable"))
    midnight = np.datetime64(start, "s")
    return Reviews(
        flashcard=steps.card,
        actor=steps.actor,
        rating=steps.rating,
        reviewed_at=midnight + steps.at,
        scheduled_on=midnight + steps.due,
        elapsed=steps.elapsed,
        state=steps.state,
        previous=steps.previous,
        retrievability=steps.retrievability,
        has_previous=steps.at >= days * _SHARE_WITHOUT_PREVIOUS * _SECONDS_PER_DAY,
    )
