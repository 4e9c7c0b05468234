"""Small graphs with reviews for the complexity: numbers for the oracle, rows for Postgres."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.workers import oracle

NOW = datetime(2026, 1, 1)  # noqa: DTZ001 -- the column has no time zone


@dataclass
class Stored:
    """A graph that is in the tables, with the reviews that are there now by their ids."""

    edges: list[tuple[int, int, float]]
    log_losses: dict[int, float | None]
    actors: list[UUID]
    cards: list[UUID]
    nodes: list[UUID]
    reviews: dict[UUID, oracle.Review] = field(default_factory=dict[UUID, oracle.Review])

    def expected(self) -> dict[UUID, float]:
        """Return the oracle's scores."""
        found = oracle.scores(
            len(self.nodes), self.edges, list(self.reviews.values()), self.log_losses, NOW
        )
        return {self.nodes[number]: score for number, score in found.items()}

    def columns(self, review: oracle.Review) -> tuple[object, ...]:
        """Return card, actor, rating, state, time and previous state, as in the table."""
        before = {"stability": review.before, "retrievability": review.retrievability}
        return (
            self.cards[review.node],
            self.actors[review.actor],
            review.rating,
            json.dumps({} if review.after is None else {"stability": review.after}),
            review.at,
            None if review.before is None else json.dumps(before),
        )

    def insert(
        self,
        connection: psycopg.Connection,
        reviews: Sequence[oracle.Review],
        table: str = "review_logs",
    ) -> list[UUID]:
        ids = [uuid4() for _ in reviews]
        with connection.cursor() as cursor:
            cursor.executemany(
                (
                    f'INSERT INTO {table} (id, "flashcardId", "actorId", rating, state,'
                    ' elapsed_time, reviewed_at, "previousState")'
                    " VALUES (%s, %s, %s, %s, %s, 0, %s, %s)"
                ).encode(),
                [
                    (identifier, *self.columns(review))
                    for identifier, review in zip(ids, reviews, strict=True)
                ],
            )
        self.reviews |= dict(zip(ids, reviews, strict=True))
        return ids

    def delete(self, connection: psycopg.Connection, identifier: UUID) -> None:
        connection.execute("DELETE FROM review_logs WHERE id = %s", [identifier])
        del self.reviews[identifier]

    def update(
        self, connection: psycopg.Connection, identifier: UUID, review: oracle.Review
    ) -> None:
        connection.execute(
            'UPDATE review_logs SET ("flashcardId", "actorId", rating, state, reviewed_at,'
            ' "previousState") = (%s, %s, %s, %s, %s, %s) WHERE id = %s',
            [*self.columns(review), identifier],
        )
        self.reviews[identifier] = review

    def check(self, connection: psycopg.Connection) -> None:
        """Fail if the scores in the table are not the oracle's."""
        assert scores(connection) == pytest.approx(self.expected(), abs=1e-9)


def store(
    connection: psycopg.Connection,
    nodes: int,
    edges: list[tuple[int, int, float]],
    log_losses: dict[int, float | None],
) -> Stored:
    """Put a graph without reviews into the emptied tables."""
    connection.execute("TRUNCATE actors, flashcards, review_logs, nodes, edges")
    stored = Stored(
        edges,
        log_losses,
        [uuid4() for _ in log_losses],
        [uuid4() for _ in range(nodes)],
        [uuid4() for _ in range(nodes)],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO actors (id, fsrs_log_loss) VALUES (%s, %s)",
            [(stored.actors[number], loss) for number, loss in log_losses.items()],
        )
        cursor.executemany(
            'INSERT INTO flashcards (id, "activityPubId") VALUES (%s, %s)',
            [(card, f"card:{card}") for card in stored.cards],
        )
        cursor.executemany(
            "INSERT INTO nodes VALUES (%s, 'Flashcard', %s)",
            [
                (node, json.dumps({"flashcardId": f"card:{card}"}))
                for node, card in zip(stored.nodes, stored.cards, strict=True)
            ],
        )
        cursor.executemany(
            'INSERT INTO edges ("sourceId", "targetId", type, properties) VALUES (%s, %s, %s, %s)',
            [
                # A missing weight means 1.
                (
                    stored.nodes[source],
                    stored.nodes[target],
                    "teaches",
                    None if weight == 1 else json.dumps({"weight": weight}),
                )
                for source, target, weight in edges
            ],
        )
    return stored


def scores(connection: psycopg.Connection) -> dict[UUID, float]:
    """Return the scores in the table."""
    rows = connection.execute(
        "SELECT id, (properties->>'cdc_score')::float8 FROM nodes WHERE properties ? 'cdc_score'"
    )
    return dict(rows.fetchall())


def forget(connection: psycopg.Connection) -> None:
    """Take away all that calculations have left."""
    connection.execute("DROP SCHEMA IF EXISTS workers CASCADE")
    connection.execute("UPDATE nodes SET properties = properties - 'cdc_score' - 'cdc_version'")
