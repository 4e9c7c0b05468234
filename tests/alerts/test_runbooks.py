"""The SQL of the runbooks does what they say, on a real table partitioned by month."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.conftest import ROOT

TABLES = """
CREATE TABLE review_logs (
    id uuid DEFAULT gen_random_uuid(), reviewed_at timestamp DEFAULT now(),
    rating smallint NOT NULL, PRIMARY KEY (id, reviewed_at)
) PARTITION BY RANGE (reviewed_at);
CREATE TABLE review_logs_202612 PARTITION OF review_logs
    FOR VALUES FROM ('2026-12-01') TO ('2027-01-01');
CREATE TABLE review_logs_default PARTITION OF review_logs DEFAULT;
INSERT INTO review_logs (rating, reviewed_at) VALUES (3, '2026-12-31 23:59');
"""


def statements(alert: str) -> str:
    text = (ROOT / "alerts" / "runbooks" / "partitioning.md").read_text()
    section = text.split(f"## {alert}\n")[1].split("\n## ")[0]
    found = re.search(r"```sql\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def connection(database_url: str):
    bookkeeping = (ROOT / "migrations" / "partition" / "sql" / "bookkeeping.sql").read_text()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute(bookkeeping.encode())
        connection.execute(
            "INSERT INTO partitioning.tables (table_name, phase, spec, log_name, default_name)"
            " VALUES ('public.review_logs', 'cutover', '{}', 'log', 'review_logs_default')"
        )
        yield connection


def partition_of(connection: psycopg.Connection, moment: str) -> list[tuple[str]]:
    return connection.execute(
        "SELECT tableoid::regclass::text FROM review_logs WHERE reviewed_at = %s", [moment]
    ).fetchall()


def recorded(connection: psycopg.Connection) -> list[tuple[str, str, str]]:
    return connection.execute(
        "SELECT month::text, partition_name, state FROM partitioning.months"
    ).fetchall()


def test_a_missing_partition_is_made(connection: psycopg.Connection) -> None:
    connection.execute(statements("PartitionMissing").encode())
    moment = "2027-01-15 12:00"
    connection.execute("INSERT INTO review_logs VALUES (DEFAULT, %s, 4)", [moment])
    assert partition_of(connection, moment) == [("review_logs_202701",)]
    assert recorded(connection) == [("2027-01-01", "review_logs_202701", "live")]


def test_rows_are_moved_out_of_the_default_partition(connection: psycopg.Connection) -> None:
    for moment in ("2027-01-15 12:00", "2031-01-01 00:00"):
        connection.execute("INSERT INTO review_logs VALUES (DEFAULT, %s, 4)", [moment])
    before = connection.execute("SELECT * FROM review_logs ORDER BY reviewed_at").fetchall()
    connection.execute(statements("DefaultPartitionFilling").encode())
    assert partition_of(connection, "2027-01-15 12:00") == [("review_logs_202701",)]
    assert partition_of(connection, "2031-01-01 00:00") == [("review_logs_default",)]
    after = connection.execute("SELECT * FROM review_logs ORDER BY reviewed_at").fetchall()
    assert after == before
    assert recorded(connection) == [("2027-01-01", "review_logs_202701", "live")]
