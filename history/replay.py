"""The rows of an Anki export: what the application would hold, had the person learnt there.

Memory states are computed by FSRS-6 with the default weights from the grades and times alone, as
the application does; when a card is due next is what Anki decided. A review log knows no concepts:
cards are taken in the order they were made, which keeps those of a topic mostly together, and every
few of them make a concept, the same number as in the simulation.

All ids follow from the export, so that loading it again gives the same rows, and a longer export of
the same person the same ids for what was in the shorter one (those of the graph excepted).
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np

from history.anki import Revlog
from history.fsrs import (
    DEFAULT_WEIGHTS,
    Floats,
    Integers,
    MemoryState,
    first_state,
    next_state,
    retrievability,
)
from history.graph import (
    FLASHCARDS_A_CONCEPT,
    concept_rows,
    flashcard_node_rows,
    prerequisite_rows,
)
from history.rows import Reviews, Rows, actor_rows, flashcard_rows, review_rows, uuids

_MILLISECONDS_PER_DAY = 86_400_000
_EPOCH = np.datetime64("1970-01-01", "ms")


def anki_rows(revlog: Revlog) -> Iterator[Rows]:
    """Yield all rows of an export of at least one review, parents before children."""
    person = _person(revlog)
    actors = [str(person)]
    cards, card = np.unique(revlog.card, return_inverse=True)
    made: list[int] = cards.tolist()
    yield from actor_rows(actors, _EPOCH + revlog.id[:1])
    flashcards = [str(uuid5(person, f"card {number}")) for number in made]
    yield from flashcard_rows(flashcards)

    generator = np.random.Generator(np.random.PCG64(person.int))
    concept = np.arange(len(flashcards)) // FLASHCARDS_A_CONCEPT
    concepts = uuids(generator, int(concept[-1]) + 1)
    yield from concept_rows(concepts, [f"Concept {i + 1}" for i in range(len(concepts))])
    yield from prerequisite_rows(concepts, generator)
    yield from flashcard_node_rows(flashcards, concept, concepts, generator)

    times: list[int] = revlog.id.tolist()
    ids = [str(uuid5(person, f"review {time}")) for time in times]
    yield from review_rows(replayed(revlog, card), ids, flashcards, actors)


def _person(revlog: Revlog) -> UUID:
    """Name the person by the moment of their first review, the one thing no export changes."""
    return uuid5(NAMESPACE_URL, f"https://learning.example/anki/{revlog.id[0]}")


def replayed(revlog: Revlog, card: Integers) -> Reviews:
    """Return the reviews with the memory before and after each; `card` counts cards from 0.

    All cards take their first review together, then their second, and so on.
    """
    count = len(revlog)
    order = np.lexsort((revlog.id, card))
    reviews_a_card = np.bincount(card)
    number = np.arange(count) - np.repeat(
        np.cumsum(reviews_a_card) - reviews_a_card, reviews_a_card
    )
    by_number = order[np.argsort(number, kind="stable")]
    bounds = np.cumsum(np.bincount(number))

    stability, difficulty = np.empty(count), np.empty(count)
    previous = MemoryState(np.zeros(count), np.ones(count))
    predicted: Floats = np.ones(count)
    elapsed: Integers = np.zeros(count, dtype=np.int64)
    last: Integers = np.zeros(len(reviews_a_card), dtype=np.int64)
    for turn, part in enumerate(np.split(by_number, bounds[:-1])):
        rating, now = revlog.rating[part], revlog.id[part]
        if turn == 0:
            after = first_state(DEFAULT_WEIGHTS, rating)
        else:
            since = last[card[part]]
            before = MemoryState(stability[since], difficulty[since])
            wait = now - revlog.id[since]
            days = now // _MILLISECONDS_PER_DAY - revlog.id[since] // _MILLISECONDS_PER_DAY
            previous.stability[part], previous.difficulty[part] = before
            predicted[part] = retrievability(
                DEFAULT_WEIGHTS, wait / _MILLISECONDS_PER_DAY, before.stability
            )
            elapsed[part] = wait // 1000
            after = next_state(DEFAULT_WEIGHTS, before, rating, days)
        stability[part], difficulty[part] = after
        last[card[part]] = part
    return Reviews(
        flashcard=card,
        actor=np.zeros(count, dtype=np.int64),
        rating=revlog.rating,
        reviewed_at=_EPOCH + revlog.id,
        scheduled_on=_EPOCH + revlog.id + revlog.interval * 1000,
        elapsed=elapsed,
        state=MemoryState(stability, difficulty),
        previous=previous,
        retrievability=predicted,
        has_previous=np.ones(count, dtype=np.bool_),
    )
