"""The table that is partitioned: rows shaped like `review_logs`, in the order they were written."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

MONTHS = 24
ACTORS = 5_000
FLASHCARDS = 20_000

_TABLES: LiteralString = """
CREATE TABLE actors (id uuid PRIMARY KEY, "createdAt" timestamp DEFAULT now());
CREATE TABLE flashcards (id uuid PRIMARY KEY, "activityPubId" text UNIQUE);
CREATE TABLE review_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    "flashcardId" uuid NOT NULL,
    "actorId" uuid NOT NULL,
    rating smallint NOT NULL,
    state jsonb NOT NULL,
    elapsed_time integer NOT NULL DEFAULT 0,
    reviewed_at timestamp NOT NULL DEFAULT now(),
    scheduled_on timestamp,
    "previousState" jsonb
);
-- Predictable keys, so that pgbench can make them up.
INSERT INTO actors (id)
SELECT lpad(to_hex(g), 32, '0')::uuid FROM generate_series(1, {actors}) AS g;
INSERT INTO flashcards (id, "activityPubId")
SELECT lpad(to_hex(g), 32, '0')::uuid, 'https://example.org/cards/' || g
FROM generate_series(1, {flashcards}) AS g;
"""

# Reviews arrive in the order of time, some up to a day late: clients are offline now and then.
_ROWS: LiteralString = """
INSERT INTO review_logs
SELECT gen_random_uuid(),
    lpad(to_hex(1 + (random() * ({flashcards} - 1))::integer), 32, '0')::uuid,
    lpad(to_hex(1 + (random() * ({actors} - 1))::integer), 32, '0')::uuid,
    1 + (random() * 3)::integer,
    jsonb_build_object('stability', round((random() * 365)::numeric, 4),
        'difficulty', round((1 + random() * 9)::numeric, 4)),
    (random() * 8000000)::integer,
    t.at - CASE WHEN random() < 0.1 THEN random() * interval '1 day' ELSE interval '0' END,
    t.at + random() * interval '90 days',
    CASE WHEN random() < 0.1
        THEN jsonb_build_object('difficulty', 1, 'stability', 0, 'retrievability', 1)
        ELSE jsonb_build_object('difficulty', round((1 + random() * 9)::numeric, 4),
            'stability', round((random() * 365)::numeric, 4),
            'retrievability', round(random()::numeric, 6)) END
FROM (
    SELECT g, span.first + interval '1 day'
        + (g::float8 / {rows}) * (span.last - span.first - interval '1 day') AS at
    FROM generate_series(1, {rows}) AS g, (
        SELECT date_trunc('month', localtimestamp) - interval '{months_before} months' AS first,
            localtimestamp AS last
    ) AS span
) AS t
{order};
"""

# The three indexes of production: none leads with reviewed_at.
_INDEXES: LiteralString = """
ALTER TABLE review_logs ADD PRIMARY KEY (id);
CREATE INDEX review_logs_actor_reviewed_at ON review_logs ("actorId", reviewed_at);
CREATE INDEX review_logs_flashcard ON review_logs ("flashcardId");
"""

_FOREIGN_KEYS: LiteralString = """
ALTER TABLE review_logs
    ADD FOREIGN KEY ("actorId") REFERENCES actors,
    ADD FOREIGN KEY ("flashcardId") REFERENCES flashcards;
"""


def create(url: str, rows: int, *, foreign_keys: bool, shuffled: bool = False) -> None:
    """Create the tables with so many reviews, evenly over 24 months, the last one the current.

    `shuffled` stores the rows in no order at all, as after a restore from pieces.
    """
    numbers = {
        "rows": sql.Literal(rows),
        "actors": sql.Literal(ACTORS),
        "flashcards": sql.Literal(FLASHCARDS),
        "months_before": sql.SQL(str(MONTHS - 1)),  # pyright: ignore[reportArgumentType]
        "order": sql.SQL("ORDER BY random()" if shuffled else ""),
    }
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(_TABLES).format(**numbers))
        connection.execute(sql.SQL(_ROWS).format(**numbers))
        connection.execute(_INDEXES)
        if foreign_keys:
            connection.execute(_FOREIGN_KEYS)
        # As vacuumed as a table in use: no contender pays for setting hint bits.
        connection.execute("VACUUM (FREEZE, ANALYZE)")
