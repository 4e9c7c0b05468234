from __future__ import annotations

import psycopg
import pytest

from history.digest import ReviewDigest, review_digest
from tests.history.helpers import load_simulated

ANOTHER_LAYOUT = """
ALTER TABLE review_logs RENAME TO review_logs_old;
CREATE TABLE review_logs (
    dropped text, "previousState" jsonb, scheduled_on timestamp, reviewed_at timestamp,
    elapsed_time integer, state jsonb, rating integer, "actorId" uuid, "flashcardId" uuid, id uuid
) PARTITION BY RANGE (reviewed_at);
ALTER TABLE review_logs DROP COLUMN dropped;
CREATE TABLE early PARTITION OF review_logs FOR VALUES FROM (MINVALUE) TO ('2025-04-01');
CREATE TABLE late PARTITION OF review_logs FOR VALUES FROM ('2025-04-01') TO (MAXVALUE);
INSERT INTO review_logs (
    id, "flashcardId", "actorId", rating, state, elapsed_time, reviewed_at, scheduled_on,
    "previousState"
)
SELECT
    id, "flashcardId", "actorId", rating, state, elapsed_time, reviewed_at, scheduled_on,
    "previousState"
FROM review_logs_old ORDER BY id
"""

ONE_REVIEW = "id = (SELECT id FROM review_logs ORDER BY id LIMIT 1)"
CHANGES = {
    "rating": "UPDATE review_logs SET rating = rating % 4 + 1",
    "state": "UPDATE review_logs SET state = state || '{\"stability\": 1.234567}'",
    "time": "UPDATE review_logs SET reviewed_at = reviewed_at + interval '1 microsecond'",
    "previous state": "UPDATE review_logs SET \"previousState\" = '{}'",
    "actor": 'UPDATE review_logs SET "actorId" = (SELECT id FROM actors'
    ' WHERE id <> "actorId" LIMIT 1)',
    "row": "DELETE FROM review_logs",
}


def test_an_empty_table_has_the_digest_nought(connection: psycopg.Connection) -> None:
    assert review_digest(connection) == ReviewDigest(rows=0, digest="0")


def test_digest_does_not_depend_on_partitions_the_order_of_rows_or_columns(
    connection: psycopg.Connection,
) -> None:
    outcome = load_simulated(connection)
    connection.execute(ANOTHER_LAYOUT)
    assert review_digest(connection) == ReviewDigest(rows=2_000, digest=outcome.digest)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_digest_changes_with_one_value_of_one_row(
    connection: psycopg.Connection, change: str
) -> None:
    outcome = load_simulated(connection, reviews=100)
    connection.execute(f"{change} WHERE {ONE_REVIEW}")  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert review_digest(connection).digest != outcome.digest
