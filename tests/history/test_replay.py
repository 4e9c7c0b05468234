from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import psycopg
import pytest
from fsrs_rs_python import DEFAULT_PARAMETERS, FSRS, FSRSItem, FSRSReview
from hypothesis import given
from hypothesis import strategies as st

from history.anki import Revlog, read_revlog
from history.loading import Outcome, load
from history.replay import anki_rows, replayed
from tests.history.helpers import Silent, value, write_csv
from tests.history.test_anki import ENTRIES, write_collection

DAY = 86_400_000
START = 1_704_067_200_000  # 2024-01-01

# Reviews as (card, rating, milliseconds since the review before, of whatever card).
logs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 20 * DAY)),
    min_size=1,
    max_size=30,
)


def revlog_of(log: list[tuple[int, int, int]]) -> tuple[Revlog, np.ndarray]:
    times = START + np.cumsum([wait for _, _, wait in log])
    cards = np.array([card for card, _, _ in log])
    ratings = np.array([rating for _, rating, _ in log])
    _, card = np.unique(cards, return_inverse=True)
    return Revlog(times, cards, ratings, np.full(len(log), 600), 0), card


@given(logs)
def test_memory_after_each_review_is_that_of_the_reference_implementation(
    log: list[tuple[int, int, int]],
) -> None:
    revlog, card = revlog_of(log)
    reviews = replayed(revlog, card)
    for number in range(card.max() + 1):
        (places,) = np.nonzero(card == number)
        days = (revlog.id[places] // DAY).tolist()
        item = FSRSItem(
            [
                FSRSReview(int(revlog.rating[place]), later - earlier)
                for place, (earlier, later) in zip(places, pairwise([days[0], *days]), strict=True)
            ]
        )
        expected = FSRS(DEFAULT_PARAMETERS).historical_memory_states(item)
        assert reviews.state.stability[places] == pytest.approx(
            [state.stability for state in expected], rel=2e-3
        )
        assert reviews.state.difficulty[places] == pytest.approx(
            [state.difficulty for state in expected], rel=2e-3
        )


@given(logs)
def test_memory_before_a_review_is_that_after_the_cards_last_one(
    log: list[tuple[int, int, int]],
) -> None:
    revlog, card = revlog_of(log)
    reviews = replayed(revlog, card)
    last: dict[int, int] = {}
    for place, number in enumerate(card.tolist()):
        since = last.get(number)
        if since is None:
            assert reviews.elapsed[place] == 0
            assert reviews.previous.difficulty[place] == 1
            assert reviews.previous.stability[place] == 0
            assert reviews.retrievability[place] == 1
        else:
            assert reviews.elapsed[place] == (revlog.id[place] - revlog.id[since]) // 1000
            assert reviews.previous.difficulty[place] == reviews.state.difficulty[since]
            assert reviews.previous.stability[place] == reviews.state.stability[since]
            assert 0 < reviews.retrievability[place] <= 1
        last[number] = place


def load_file(connection: psycopg.Connection, path: Path) -> Outcome:
    connection.execute("TRUNCATE actors, flashcards, review_logs, nodes, edges")
    return load(connection, anki_rows(read_revlog(path)), Silent())


def test_an_export_is_loaded_as_the_reviews_of_one_actor(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    outcome = load_file(connection, write_csv(tmp_path / "revlog.csv", ENTRIES))
    assert (outcome.outcome, outcome.rows) == ("loaded", 4)
    assert (outcome.actors, outcome.flashcards) == (1, 2)
    rows = connection.execute(
        "SELECT reviewed_at::text, scheduled_on::text, rating, elapsed_time,"
        ' "previousState" = \'{"difficulty": 1, "stability": 0, "retrievability": 1}\''
        " FROM review_logs ORDER BY reviewed_at"
    ).fetchall()
    assert rows == [
        ("2025-01-24 19:38:18.344", "2025-01-24 19:48:18.344", 3, 0, True),
        ("2025-01-24 19:49:58.344", "2025-01-28 19:49:58.344", 4, 700, False),
        ("2025-01-24 19:51:38.344", "2025-01-24 19:52:38.344", 1, 0, True),
        ("2025-01-24 19:54:48.344", "2025-01-24 19:54:48.344", 2, 190, False),
    ]
    created = value(connection, 'SELECT "createdAt"::text FROM actors')
    assert created == "2025-01-24 19:38:18.344"


def test_every_card_tests_one_of_the_concepts_cards_are_grouped_into(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    entries = [(START + i, 1_000 - i, 3, 1, 0, 2500, 9, 0) for i in range(30)]
    load_file(connection, write_csv(tmp_path / "revlog.csv", entries))
    sizes = connection.execute(
        """SELECT count(*) FROM edges AS e
        JOIN nodes AS card ON card.id = "sourceId" AND card.type = 'Flashcard'
        JOIN nodes AS concept ON concept.id = "targetId" AND concept.type = 'Concept'
        JOIN flashcards ON card.properties ->> 'flashcardId' = "activityPubId"
        WHERE e.type = 'TESTS'
        GROUP BY concept.id ORDER BY 1"""
    ).fetchall()
    assert sizes == [(6,), (12,), (12,)]


TABLES = ("actors", "flashcards", "nodes", "edges", "review_logs")


def contents(connection: psycopg.Connection) -> dict[str, set[str]]:
    return {
        table: {row[0] for row in connection.execute(f"SELECT t::text FROM {table} AS t")}  # pyright: ignore[reportArgumentType, reportCallIssue]
        for table in TABLES
    }


def test_loading_the_same_reviews_again_gives_the_same_rows_from_csv_or_collection(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    seen: list[dict[str, set[str]]] = []
    for path in (
        write_csv(tmp_path / "a.csv", ENTRIES),
        write_csv(tmp_path / "b.csv", ENTRIES[::-1]),
        write_collection(tmp_path / "c.anki2", ENTRIES),
    ):
        load_file(connection, path)
        seen.append(contents(connection))
    assert seen[0] == seen[1] == seen[2]


def test_a_longer_export_keeps_the_reviews_of_the_shorter_one(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    load_file(connection, write_csv(tmp_path / "short.csv", ENTRIES[:2]))
    before = contents(connection)
    load_file(connection, write_csv(tmp_path / "long.csv", ENTRIES))
    after = contents(connection)
    for table in ("actors", "flashcards", "review_logs"):
        assert before[table] <= after[table]


def test_two_people_share_no_ids(connection: psycopg.Connection, tmp_path: Path) -> None:
    load_file(connection, write_csv(tmp_path / "one.csv", ENTRIES[:2]))
    one = contents(connection)
    load_file(connection, write_csv(tmp_path / "two.csv", ENTRIES[1:2]))
    assert not any(one[table] & contents(connection)[table] for table in TABLES)
