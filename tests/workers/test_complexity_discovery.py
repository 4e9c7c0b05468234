"""Which months a table is thought to have reviews in, before it is read."""

from __future__ import annotations

from datetime import date

import psycopg
import pytest

from workers.complexity_definition import Definition
from workers.complexity_state import ensure_tracking, find_dirty_months

PARTITIONED = """
CREATE TABLE actors (id uuid PRIMARY KEY, fsrs_log_loss double precision);
CREATE TABLE flashcards (id uuid PRIMARY KEY, "activityPubId" text);
CREATE TABLE review_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(), "flashcardId" uuid NOT NULL,
    "actorId" uuid NOT NULL, rating smallint NOT NULL, state jsonb NOT NULL DEFAULT '{}',
    reviewed_at timestamp NOT NULL, "previousState" jsonb
) PARTITION BY RANGE (reviewed_at);
CREATE TABLE january PARTITION OF review_logs FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE spring PARTITION OF review_logs FOR VALUES FROM ('2024-03-15') TO ('2024-05-01');
CREATE TABLE rest PARTITION OF review_logs DEFAULT;
INSERT INTO review_logs ("flashcardId", "actorId", rating, reviewed_at)
SELECT gen_random_uuid(), gen_random_uuid(), 3, at
FROM unnest(ARRAY['2024-01-05', '2024-01-06', '2024-04-30 23:59', '2021-07-01']::timestamp[]) AS at
"""
JANUARY, MARCH, APRIL = date(2024, 1, 1), date(2024, 3, 1), date(2024, 4, 1)


@pytest.fixture
def partitioned(database_url: str) -> psycopg.Connection:
    connection = psycopg.connect(database_url, autocommit=True)
    for statement in PARTITIONED.split(";\n"):
        connection.execute(statement.encode())
    ensure_tracking(connection)
    return connection


def test_a_partition_s_months_are_those_between_its_bounds(
    partitioned: psycopg.Connection,
) -> None:
    partitioned.execute("ANALYZE review_logs")
    with partitioned:
        found = find_dirty_months(partitioned, Definition())
    assert found == {JANUARY: 2, MARCH: 0, APRIL: 0, date(2021, 7, 1): 1}


def test_a_partition_up_to_somebody_s_idea_of_infinity_has_no_months_there(
    partitioned: psycopg.Connection,
) -> None:
    partitioned.execute(
        "CREATE TABLE last PARTITION OF review_logs"
        " FOR VALUES FROM ('9998-12-01') TO ('9999-12-31')"
    )
    partitioned.execute("ANALYZE review_logs")
    with partitioned:
        found = find_dirty_months(partitioned, Definition())
    assert max(found) == date(9998, 12, 1)


def test_a_partition_nobody_analyzed_is_looked_at_itself(partitioned: psycopg.Connection) -> None:
    with partitioned:
        found = find_dirty_months(partitioned, Definition())
    assert found == {JANUARY: 2, APRIL: 1, date(2021, 7, 1): 1}
