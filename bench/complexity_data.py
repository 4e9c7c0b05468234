"""A platform's tables for the complexity: cards reviewed at growing intervals, two years long."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

ACTORS = 2_000
CARDS = 45_000
CONCEPTS = 5_000
EDGES = 200_000

# Who reviews which card is drawn by hash; each pair is reviewed up to eight times, at growing
# intervals, from some day on that may lie before the two years.
_ROWS: LiteralString = """
CREATE TABLE actors (
    id uuid PRIMARY KEY, "createdAt" timestamp NOT NULL DEFAULT now(),
    fsrs_parameters jsonb, fsrs_log_loss double precision
);
CREATE TABLE flashcards (id uuid PRIMARY KEY, "activityPubId" text NOT NULL UNIQUE);
CREATE TABLE review_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(), "flashcardId" uuid NOT NULL,
    "actorId" uuid NOT NULL, rating smallint NOT NULL, state jsonb NOT NULL,
    elapsed_time integer NOT NULL, reviewed_at timestamp NOT NULL DEFAULT now(),
    scheduled_on timestamp, "previousState" jsonb
) PARTITION BY RANGE (reviewed_at);
CREATE TABLE nodes (id uuid PRIMARY KEY, type text NOT NULL, properties jsonb);
CREATE TABLE edges (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "sourceId" uuid NOT NULL,
    "targetId" uuid NOT NULL, type text NOT NULL, properties jsonb
);
SELECT setseed(0.5);
INSERT INTO actors (id, fsrs_log_loss)
SELECT md5('actor' || g)::uuid, 0.2 + random() * 0.5 FROM generate_series(1, {actors}) AS g;
INSERT INTO flashcards
SELECT md5('card' || g)::uuid, 'https://example.org/cards/' || g
FROM generate_series(1, {cards}) AS g;
INSERT INTO nodes
SELECT md5('node' || g)::uuid, 'Flashcard', jsonb_build_object(
    'flashcardId', 'https://example.org/cards/' || g, 'title', 'Card number ' || g)
FROM generate_series(1, {cards}) AS g;
INSERT INTO nodes
SELECT md5('concept' || g)::uuid, 'Concept', jsonb_build_object('title', 'Concept number ' || g)
FROM generate_series(1, {concepts}) AS g;
INSERT INTO edges ("sourceId", "targetId", type)
SELECT md5('node' || 1 + g % {cards})::uuid,
    md5('concept' || 1 + floor(random() * {concepts})::integer)::uuid, 'teaches'
FROM generate_series(1, {edges}) AS g;
INSERT INTO review_logs
    ("flashcardId", "actorId", rating, state, elapsed_time, reviewed_at, "previousState")
SELECT md5('card' || card)::uuid, md5('actor' || actor)::uuid,
    CASE WHEN random() < 0.15 THEN 1 WHEN random() < 0.2 THEN 2
        WHEN random() < 0.8 THEN 3 ELSE 4 END,
    jsonb_build_object('stability', 1 + random() * 40, 'difficulty', 1 + random() * 9),
    gap * 86400, at,
    jsonb_build_object('stability', random() * 30, 'difficulty', 1 + random() * 9,
        'retrievability', random())
FROM (
    SELECT 1 + pair % {actors} AS actor, 1 + (hashint8(pair) & 2147483647) % {cards} AS card, gap,
        timestamp '2024-01-01' + gap * interval '1 day' + random() * interval '10 minutes'
        + ((hashint8(pair + 1000000000) & 2147483647) / 2147483648.0 * 960 - 240)
            * interval '1 day' AS at
    FROM generate_series(1, ({reviews} * 1.34 / 8)::integer) AS pair,
        unnest(ARRAY[0, 1, 3, 8, 20, 45, 100, 220]) AS gap
) AS drawn
WHERE at >= '2024-01-01' AND at < '2025-12-20'
ORDER BY at LIMIT {reviews};
VACUUM ANALYZE
"""

_DAY: LiteralString = """
INSERT INTO review_logs
    ("flashcardId", "actorId", rating, state, elapsed_time, reviewed_at, "previousState")
SELECT "flashcardId", "actorId", 1 + floor(random() * 4)::integer, state, elapsed_time,
    last + random() * interval '1 day', "previousState"
FROM review_logs TABLESAMPLE SYSTEM (1),
    (SELECT max(reviewed_at) AS last, count(*) / 720 AS a_day FROM review_logs) AS present
ORDER BY random() LIMIT (SELECT count(*) / 720 FROM review_logs)
"""

_INSERT: LiteralString = """
INSERT INTO review_logs
    ("flashcardId", "actorId", rating, state, elapsed_time, reviewed_at, "previousState")
SELECT "flashcardId", "actorId", rating, state, elapsed_time, now()::timestamp, "previousState"
FROM review_logs
"""
ONE = _INSERT + " LIMIT 1"
MANY = _INSERT + " LIMIT 50000"
"""An application's write, and a bulk load's."""


def fill(connection: psycopg.Connection, reviews: int) -> None:
    """Create the tables with so many reviews."""
    values = {
        "reviews": reviews, "actors": ACTORS, "cards": CARDS, "concepts": CONCEPTS, "edges": EDGES,
    }  # fmt: skip
    create, *others = _ROWS.split("SELECT setseed")
    connection.execute(create.encode())
    for number in range(25):
        connection.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF review_logs FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(f"review_logs_{number}"), *(_month(n) for n in (number, number + 1))
            )
        )
    # For what `writers` inserts today.
    connection.execute("CREATE TABLE review_logs_default PARTITION OF review_logs DEFAULT")
    for statement in ("SELECT setseed" + "".join(others)).split(";"):
        connection.execute(sql.SQL(statement).format(**values))


def _month(number: int) -> str:
    return f"{2024 + number // 12}-{number % 12 + 1:02}-01"


def add_day(connection: psycopg.Connection) -> int:
    """Add a day after the last one, with as many reviews as an average day; return how many."""
    return connection.execute(_DAY).rowcount
