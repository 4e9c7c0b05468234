"""Who learns what: simulated learners and the flashcards they draw from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from history.fsrs import DEFAULT_WEIGHTS, Floats, Integers
from history.graph import FLASHCARDS_A_CONCEPT

_LEARNERS_A_FLASHCARD = 8
_FLASHCARDS_A_COURSE = 60

# The bounds fsrs-rs keeps parameters in while it trains (`parameter_clipper.rs`).
LOWEST_WEIGHTS = (
    *(0.001, 0.001, 0.001, 0.001, 1, 0.001, 0.001, 0.001, 0, 0, 0.001),
    *(0.001, 0.001, 0.001, 0, 0, 1, 0, 0, 0.01, 0.1),
)
HIGHEST_WEIGHTS = (
    *(100, 100, 100, 100, 10, 4, 4, 0.75, 4.5, 0.8, 3.5),
    *(5, 0.25, 0.9, 4, 1, 6, 2, 2, 0.8, 0.8),
)


@dataclass(frozen=True)
class Learners:
    """One entry, or column, an actor; days count from the first of the history."""

    reviews: Integers
    """How many reviews the actor makes in all."""
    first_day: Integers
    last_day: Integers
    """The days between which the actor learns, both included."""
    weights: Floats
    """The FSRS-6 weights the actor's memory follows, shape (21, actors)."""
    retention: Floats
    """The probability of recall at which reviews are scheduled."""
    study_chance: Floats
    """The probability of learning at all on a day of the week, shape (actors, 7)."""
    session_second: Integers
    """The second of the day (UTC) around which the actor learns."""
    repeats_new: Floats
    """The probability of repeating a new card on the same day."""
    generosity: Floats
    """How much the actor leans to better grades; 0 is average."""
    course_start: Integers
    """The flashcard the actor begins with; the next ones follow in order."""

    def __len__(self) -> int:
        return len(self.reviews)


@dataclass(frozen=True)
class Flashcards:
    """The flashcards all learners draw from, in the order of their concepts."""

    concept: Integers
    hardness: Floats
    """How much harder than usual a card is, in standard deviations; shared by its concept."""

    def __len__(self) -> int:
        return len(self.concept)


def draw_learners(
    generator: np.random.Generator, actors: int, reviews: int, days: int
) -> tuple[Learners, Flashcards]:
    """Draw a population that makes exactly `reviews` reviews, each actor at least one."""
    first_day = np.floor(days * 0.9 * generator.beta(1.0, 1.3, actors)).astype(np.int64)
    stays = np.where(generator.random(actors) < 0.7, 1.0, generator.uniform(0.1, 1.0, actors))
    last_day = first_day + np.ceil((days - 1 - first_day) * stays).astype(np.int64)
    tenure = last_day - first_day + 1
    diligence = generator.lognormal(0.0, 1.1, actors)
    share = apportioned(reviews, diligence * (tenure + 14))
    needed = share / reviews_a_flashcard(tenure)
    count = int(max(needed.sum() / _LEARNERS_A_FLASHCARD, 2 * needed.max(), FLASHCARDS_A_CONCEPT))
    flashcards = _draw_flashcards(generator, count)
    weekday = np.clip(generator.beta(4.0, 1.5, (actors, 1)), 0.15, 0.98)
    weekend = weekday * generator.uniform(0.4, 1.0, (actors, 1))
    learners = Learners(
        reviews=share,
        first_day=first_day,
        last_day=last_day,
        weights=_draw_weights(generator, actors),
        retention=np.clip(generator.normal(0.9, 0.025, actors), 0.75, 0.97).round(2),
        study_chance=np.where(np.arange(7) < 5, weekday, weekend),
        session_second=_draw_session(generator, actors),
        repeats_new=generator.beta(2.0, 2.0, actors),
        generosity=generator.normal(0.0, 0.3, actors),
        course_start=_draw_course(generator, actors, count),
    )
    return learners, flashcards


def apportioned(total: int, weight: Floats) -> Integers:
    """Split `total` in proportion to `weight`, at least 1 each: the largest remainder method."""
    spare = total - len(weight)
    exact = weight / weight.sum() * spare
    whole = np.floor(exact).astype(np.int64)
    missing = spare - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return whole + 1


def reviews_a_flashcard(tenure: Integers) -> Floats:
    """Estimate the reviews of a card within `tenure` days; only speed depends on it."""
    return 2.0 + 1.1 * np.log2(1 + tenure / 20)


def _draw_flashcards(generator: np.random.Generator, count: int) -> Flashcards:
    concept = np.arange(count, dtype=np.int64) // FLASHCARDS_A_CONCEPT
    of_concept = generator.normal(0.0, 0.85, int(concept[-1]) + 1)
    return Flashcards(concept, of_concept[concept] + generator.normal(0.0, 0.5, count))


def _draw_weights(generator: np.random.Generator, actors: int) -> Floats:
    spread = np.full((21, 1), 0.15)
    spread[:4] = 0.4
    weights = DEFAULT_WEIGHTS * np.exp(spread * generator.normal(0.0, 1.0, (21, actors)))
    weights[:4] = np.sort(weights[:4], axis=0)
    return np.clip(
        weights, np.array(LOWEST_WEIGHTS)[:, np.newaxis], np.array(HIGHEST_WEIGHTS)[:, np.newaxis]
    )


def _draw_session(generator: np.random.Generator, actors: int) -> Integers:
    hour = generator.choice([7.5, 12.5, 20.0], actors, p=[0.3, 0.15, 0.55])
    return (3600 * (hour + generator.normal(0.0, 1.0, actors))).astype(np.int64)


def _draw_course(generator: np.random.Generator, actors: int, flashcards: int) -> Integers:
    """Draw where each actor begins; courses are chosen by a Zipf law."""
    courses = -(-flashcards // _FLASHCARDS_A_COURSE)
    popularity = 1 / np.arange(1, courses + 1) ** 0.7
    ranked = generator.permutation(courses)
    chosen = generator.choice(courses, actors, p=popularity / popularity.sum())
    return ranked[chosen] * _FLASHCARDS_A_COURSE
