"""The application's tables as TypeORM made them in production, and what to compare of databases."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import psycopg

TABLES = ("actors", "flashcards", "review_logs", "nodes", "edges")

TYPEORM = """
CREATE TABLE actors (
    id uuid NOT NULL DEFAULT gen_random_uuid(), "createdAt" TIMESTAMP NOT NULL DEFAULT now(),
    "preferredUsername" character varying NOT NULL DEFAULT 'nobody',
    CONSTRAINT "PK_d8608598c2c4f907a78de2ae461" PRIMARY KEY (id)
);
CREATE TABLE flashcards (
    id uuid NOT NULL DEFAULT gen_random_uuid(), "activityPubId" character varying NOT NULL,
    CONSTRAINT "UQ_a1" UNIQUE ("activityPubId"), CONSTRAINT "PK_b2" PRIMARY KEY (id)
);
CREATE TABLE review_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(), "flashcardId" uuid, "actorId" uuid,
    rating smallint NOT NULL, state jsonb NOT NULL, elapsed_time integer NOT NULL,
    reviewed_at TIMESTAMP(6) NOT NULL DEFAULT now(), scheduled_on TIMESTAMP,
    CONSTRAINT "PK_c3" PRIMARY KEY (id),
    CONSTRAINT "FK_d4" FOREIGN KEY ("flashcardId") REFERENCES flashcards(id) ON DELETE CASCADE,
    CONSTRAINT "FK_e5" FOREIGN KEY ("actorId") REFERENCES actors(id) ON DELETE CASCADE
);
CREATE INDEX "IDX_f6" ON review_logs ("actorId");
CREATE TABLE nodes (
    id uuid NOT NULL DEFAULT gen_random_uuid(), type character varying NOT NULL,
    properties jsonb NOT NULL DEFAULT '{}', CONSTRAINT "PK_a7" PRIMARY KEY (id)
);
CREATE TABLE edges (
    id uuid NOT NULL DEFAULT gen_random_uuid(), "sourceId" uuid, "targetId" uuid,
    type text NOT NULL, properties jsonb, CONSTRAINT "PK_b8" PRIMARY KEY (id),
    CONSTRAINT "FK_c9" FOREIGN KEY ("sourceId") REFERENCES nodes(id)
);
INSERT INTO actors SELECT FROM generate_series(1, 20);
INSERT INTO flashcards
SELECT gen_random_uuid(), 'https://example.org/' || n FROM generate_series(1, 50) AS n;
INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time, reviewed_at)
SELECT f.id, a.id, 3, '{"stability": 2.5, "difficulty": 5}', 86400, timestamp '2024-01-01 08:00'
FROM flashcards AS f CROSS JOIN actors AS a;
INSERT INTO nodes SELECT id, 'Flashcard' FROM flashcards;
INSERT INTO edges ("sourceId", "targetId", type)
SELECT a.id, b.id, 'teaches' FROM nodes AS a CROSS JOIN nodes AS b LIMIT 100;
"""

# Columns, indexes and constraints of everything that is not Postgres' own, in a fixed order.
FINGERPRINT = """
SELECT format('%%s.%%s.%%s %%s %%s %%s', table_schema, table_name, column_name, udt_name,
    is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = ANY (%(schemas)s)
UNION ALL
SELECT indexdef FROM pg_indexes WHERE schemaname = ANY (%(schemas)s)
UNION ALL
SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace::regnamespace::text = ANY (%(schemas)s)
ORDER BY 1
"""


def fingerprint(url: str, *schemas: str) -> list[str]:
    """Describe columns, indexes and constraints of the schemas (default: ours and public)."""
    with psycopg.connect(url, autocommit=True) as connection:
        names = list(schemas or ("public", "migrations"))
        return [row[0] for row in connection.execute(FINGERPRINT, {"schemas": names})]


def contents(url: str, added: dict[str, tuple[str, ...]] | None = None) -> dict[str, object]:
    """Hash each table's rows without the `added` columns; with its file: rewriting changes it."""
    result: dict[str, object] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for table in TABLES:
            row = connection.execute(
                "SELECT count(*), sum(hashtextextended((to_jsonb(t) - %s::text[])::text, 0)),"
                f" pg_relation_filenode('{table}') FROM {table} AS t".encode(),
                [list((added or {}).get(table, ()))],
            ).fetchone()
            result[table] = row
    return result


@contextmanager
def session(url: str, name: str, *statements: str) -> Generator[psycopg.Connection]:
    """A session that has run the statements in a transaction and keeps that open."""
    with psycopg.connect(url, application_name=name) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


@contextmanager
def background(action: Callable[[], object]) -> Generator[list[object]]:
    """Run `action` in a thread meanwhile; the list has its result, or what it raised, after."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(action())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(60)


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
