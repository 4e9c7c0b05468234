"""Application tables and rows for the tests of the workers."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg

START = datetime(2024, 1, 1, 8)  # noqa: DTZ001 -- the column has no time zone

DDL = """
CREATE TABLE actors (
    id uuid PRIMARY KEY, "createdAt" timestamp NOT NULL DEFAULT now(),
    fsrs_parameters jsonb, fsrs_log_loss double precision
);
CREATE TABLE flashcards (id uuid PRIMARY KEY, "activityPubId" text NOT NULL UNIQUE);
CREATE TABLE review_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    "flashcardId" uuid NOT NULL REFERENCES flashcards, "actorId" uuid NOT NULL REFERENCES actors,
    rating smallint NOT NULL, state jsonb NOT NULL, elapsed_time integer NOT NULL,
    reviewed_at timestamp NOT NULL DEFAULT now(), scheduled_on timestamp, "previousState" jsonb
);
CREATE TABLE nodes (id uuid PRIMARY KEY, type text NOT NULL, properties jsonb);
CREATE TABLE edges (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "sourceId" uuid NOT NULL REFERENCES nodes,
    "targetId" uuid NOT NULL REFERENCES nodes, type text NOT NULL, properties jsonb
);
"""

# Synthetic reviews made by the server itself: `actors` learners, `cards` cards with a node each
# under `concepts` concepts, `reviews` reviews spread evenly over 500 days.
BULK = """
INSERT INTO actors (id) SELECT gen_random_uuid() FROM generate_series(1, %(actors)s);
INSERT INTO flashcards
SELECT gen_random_uuid(), 'https://example.org/cards/' || n FROM generate_series(1, %(cards)s) AS n;
INSERT INTO nodes
SELECT gen_random_uuid(), 'Flashcard', jsonb_build_object('flashcardId', "activityPubId")
FROM flashcards;
INSERT INTO nodes
SELECT gen_random_uuid(), 'Concept', '{}' FROM generate_series(1, %(concepts)s);
INSERT INTO edges ("sourceId", "targetId", type)
SELECT f.id, c.id, 'teaches'
FROM (SELECT id, row_number() OVER () AS n FROM nodes WHERE type = 'Flashcard') AS f
JOIN (SELECT id, row_number() OVER () AS n FROM nodes WHERE type = 'Concept') AS c
    ON f.n %% %(concepts)s + 1 = c.n;
INSERT INTO review_logs
    ("flashcardId", "actorId", rating, state, elapsed_time, reviewed_at, "previousState")
SELECT
    f.id, a.id,
    CASE WHEN random() < 0.15 THEN 1 WHEN random() < 0.2 THEN 2
        WHEN random() < 0.8 THEN 3 ELSE 4 END,
    jsonb_build_object('stability', 1 + random() * 40, 'difficulty', 1 + random() * 9), 86400,
    timestamp '2024-01-01' + (r.n * interval '500 days') / %(reviews)s,
    jsonb_build_object(
        'stability', random() * 30, 'difficulty', 1 + random() * 9, 'retrievability', random()
    )
FROM generate_series(1, %(reviews)s) AS r (n)
JOIN (SELECT id, row_number() OVER () - 1 AS n FROM actors) AS a ON a.n = r.n %% %(actors)s
JOIN (SELECT id, row_number() OVER () - 1 AS n FROM flashcards) AS f
    ON f.n = (r.n / %(actors)s * 7 + r.n * 13) %% %(cards)s;
ANALYZE
"""


def fill(
    connection: psycopg.Connection, actors: int, cards: int, concepts: int, reviews: int
) -> None:
    """Fill the tables with synthetic rows."""
    values = {"actors": actors, "cards": cards, "concepts": concepts, "reviews": reviews}
    for statement in BULK.split(";"):
        connection.execute(psycopg.ClientCursor(connection).mogrify(statement, values).encode())


def add_actor(connection: psycopg.Connection, log_loss: float | None = None) -> UUID:
    actor = uuid4()
    connection.execute("INSERT INTO actors (id, fsrs_log_loss) VALUES (%s, %s)", [actor, log_loss])
    return actor


def add_learner(
    connection: psycopg.Connection, reviews: int, seed: int = 1, start: datetime = START
) -> UUID:
    """Add an actor who forgets faster than the default parameters expect; return its id.

    The reviews are of the 7 months from `start` on; 250 and more take longer.
    """
    chance = random.Random(seed)
    actor = add_actor(connection)
    cards: list[UUID] = []
    rows: list[tuple[UUID, UUID, int, datetime]] = []
    while len(rows) < reviews:
        card = uuid4()
        cards.append(card)
        at = start + timedelta(days=len(cards) // 5, seconds=len(cards))
        interval = 0.0
        for _ in range(min(8, reviews - len(rows))):
            recalled = chance.random() < 0.97 ** (interval * 1.5)
            rows.append((card, actor, 3 if recalled else 1, at))
            interval = max(1.0, interval * 2.2) if recalled else 1.0
            at += timedelta(days=round(interval))
    with connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO flashcards (id, "activityPubId") VALUES (%s, %s)',
            [(card, f"https://example.org/cards/{card}") for card in cards],
        )
        cursor.executemany(
            'INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time,'
            " reviewed_at) VALUES (%s, %s, %s, '{}', 0, %s)",
            rows,
        )
    return actor
