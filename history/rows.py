"""Rows of the application tables in COPY's text format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from history.fsrs import Floats, Integers, MemoryState

ROWS_A_COPY = 20_000
"""Rows in one COPY: what the client holds as text, and the server as pending foreign key checks."""


@dataclass(frozen=True)
class Rows:
    """Some rows of one table; each line is a row in COPY's text format, without its newline."""

    table: str
    columns: tuple[str, ...]
    lines: Sequence[str]


@dataclass(frozen=True)
class Reviews:
    """Reviews in the order they are to be stored, one entry an array; times are UTC."""

    flashcard: npt.NDArray[np.int64]
    """Positions in the list of flashcards."""
    actor: npt.NDArray[np.int64]
    """Positions in the list of actors."""
    rating: Integers
    reviewed_at: npt.NDArray[np.datetime64]
    scheduled_on: npt.NDArray[np.datetime64]
    """When the card is next due, as decided at this review."""
    elapsed: Integers
    """Seconds since the card's last review by this actor; 0 for the first."""
    state: MemoryState
    previous: MemoryState
    """The memory before the review; difficulty 1 and stability 0 before the first."""
    retrievability: Floats
    """The predicted probability of recall; 1 at the first review."""
    has_previous: npt.NDArray[np.bool_]
    """Whether the row stores `previousState`: older rows of production do not."""


def uuids(generator: np.random.Generator, count: int) -> list[str]:
    """Return random UUIDs (version 4) of the generator's own, so that a seed repeats them."""
    octets = generator.integers(0, 256, (count, 16), dtype=np.uint8)
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = octets.tobytes().hex()
    return [
        f"{digits[i : i + 8]}-{digits[i + 8 : i + 12]}-{digits[i + 12 : i + 16]}"
        f"-{digits[i + 16 : i + 20]}-{digits[i + 20 : i + 32]}"
        for i in range(0, 32 * count, 32)
    ]


def chunks(table: str, columns: tuple[str, ...], lines: Sequence[str]) -> Iterator[Rows]:
    """Cut rows into what one COPY takes."""
    for start in range(0, len(lines), ROWS_A_COPY):
        yield Rows(table, columns, lines[start : start + ROWS_A_COPY])


def actor_rows(ids: Sequence[str], created_at: npt.NDArray[np.datetime64]) -> Iterator[Rows]:
    """Yield the rows of `actors`."""
    times = np.datetime_as_string(created_at).tolist()
    lines = [f"{id_}\t{time}" for id_, time in zip(ids, times, strict=True)]
    yield from chunks("actors", ("id", "createdAt"), lines)


def activity_pub_id(flashcard: str) -> str:
    """Return the address under which the rest of the fediverse knows a flashcard."""
    return f"https://learning.example/flashcards/{flashcard}"


def flashcard_rows(ids: Sequence[str]) -> Iterator[Rows]:
    """Yield the rows of `flashcards`."""
    lines = [f"{id_}\t{activity_pub_id(id_)}" for id_ in ids]
    yield from chunks("flashcards", ("id", "activityPubId"), lines)


_REVIEW_COLUMNS = (
    "id",
    "flashcardId",
    "actorId",
    "rating",
    "state",
    "elapsed_time",
    "reviewed_at",
    "scheduled_on",
    "previousState",
)
_STATE = '{"stability":%.6f,"difficulty":%.6f}'
_PREVIOUS = '{"difficulty":%.6f,"stability":%.6f,"retrievability":%.6f}'
_NULL = r"\N"


def review_rows(
    reviews: Reviews, ids: Sequence[str], flashcards: Sequence[str], actors: Sequence[str]
) -> Iterator[Rows]:
    """Yield the rows of `review_logs`, with `ids` of their own, for the given parents' ids."""
    for start in range(0, len(ids), ROWS_A_COPY):
        part = slice(start, start + ROWS_A_COPY)
        states = zip(
            reviews.state.stability[part].tolist(),
            reviews.state.difficulty[part].tolist(),
            strict=True,
        )
        previous = zip(
            reviews.previous.difficulty[part].tolist(),
            reviews.previous.stability[part].tolist(),
            reviews.retrievability[part].tolist(),
            strict=True,
        )
        fields = zip(
            ids[part],
            [flashcards[card] for card in reviews.flashcard[part].tolist()],
            [actors[actor] for actor in reviews.actor[part].tolist()],
            map(str, reviews.rating[part].tolist()),
            [_STATE % state for state in states],
            map(str, reviews.elapsed[part].tolist()),
            np.datetime_as_string(reviews.reviewed_at[part]).tolist(),
            np.datetime_as_string(reviews.scheduled_on[part]).tolist(),
            [
                _PREVIOUS % state if stored else _NULL
                for state, stored in zip(previous, reviews.has_previous[part].tolist(), strict=True)
            ],
            strict=True,
        )
        lines = ["\t".join(row) for row in fields]
        yield Rows("review_logs", _REVIEW_COLUMNS, lines)
