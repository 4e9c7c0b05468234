"""Summing months up, against a real Postgres."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.workers.programs import wait_until
from workers.complexity_months import number_everybody
from workers.complexity_state import ensure_tables


def test_who_gives_out_numbers_at_the_same_time_waits_and_gives_nobody_a_second_one(
    connection: psycopg.Connection, database_url: str
) -> None:
    ensure_tables(connection)
    connection.execute("SET default_transaction_isolation = 'repeatable read'")
    connection.execute(
        "INSERT INTO actors (id) SELECT gen_random_uuid() FROM generate_series(1, 9)"
    )
    with (
        psycopg.connect(database_url) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        other.autocommit = True
        with other.transaction():
            number_everybody(other)
            waiting = thread.submit(number_everybody, connection)
            wait_until(
                lambda: (
                    other.execute(
                        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    ).rowcount
                    == 1
                )
            )
        waiting.result()
        row = other.execute(
            "SELECT count(*), count(DISTINCT number) FROM workers.complexity_numbers"
        ).fetchone()
    assert row == (9, 9)
