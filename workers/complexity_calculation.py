"""The complexity job: from everybody's reviews to the score of every node."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import psycopg

from workers import arrays, complexity
from workers.complexity_definition import VERSION, Definition
from workers.database import CALCULATION_LOCK, ensure_bookkeeping, statement


@dataclass(frozen=True)
class Result:
    """What a calculation read and wrote."""

    version: int
    reviews: int
    actors: int
    nodes: int
    edges: int
    scored: int
    written: int
    iterations: int
    seconds: float


def calculate(connection: psycopg.Connection, definition: Definition) -> Result:
    """Compute and write the score of every node, the scores in one transaction.

    Waits while another calculation runs on the same database. The reviews are read by one
    statement in a transaction of its own: whoever changes their table waits for no more than that.
    """
    ensure_bookkeeping(connection)
    connection.execute("SELECT pg_advisory_lock(%s)", [CALCULATION_LOCK])
    try:
        return _calculate(connection, definition)
    finally:
        # If the connection broke, the server has released the lock and dropped the tables.
        if not connection.broken:
            connection.execute("DISCARD TEMP")
            connection.execute("SELECT pg_advisory_unlock(%s)", [CALCULATION_LOCK])


def _calculate(connection: psycopg.Connection, definition: Definition) -> Result:
    started = time.perf_counter()
    with connection.transaction():
        _tune(connection)
        connection.execute(statement("complexity_opinions"), vars(definition))
    with connection.transaction():
        _tune(connection)
        reviews, actors = _reputations(connection)
        base = _medians(connection)
        edges = arrays.fetch(
            connection,
            statement("complexity_edges"),
            {"source": "i4", "target": "i4", "weight": "f8"},
        )
        neighbours = complexity.adjacency(
            len(base), edges["source"], edges["target"], edges["weight"]
        )
        scores, iterations = complexity.scores(base, neighbours, definition.propagation)
        scored = int((~np.isnan(scores)).sum())
        written = _write(connection, scores)
        result = Result(
            version=VERSION,
            reviews=reviews,
            actors=actors,
            nodes=len(base),
            edges=len(edges["source"]),
            scored=scored,
            written=written,
            iterations=iterations,
            seconds=round(time.perf_counter() - started, 3),
        )
        connection.execute(statement("record_complexity_run"), vars(result))
    return result


def _tune(connection: psycopg.Connection) -> None:
    # These sort and hash everything; and compiling queries that run once does not pay.
    connection.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")


def _reputations(connection: psycopg.Connection) -> tuple[int, int]:
    """Weigh the actors; return the number of reviews and of actors."""
    connection.execute("ANALYZE complexity_opinions")
    connection.execute(statement("complexity_reputations"))
    counted = connection.execute(
        "SELECT coalesce(sum(reviews), 0)::bigint, count(DISTINCT actor_id)"
        " FROM complexity_opinions"
    ).fetchone()
    assert counted is not None  # noqa: S101 -- an aggregate always has a row
    return counted[0], counted[1]


def _medians(connection: psycopg.Connection) -> complexity.Values:
    connection.execute(statement("complexity_nodes"))
    connection.execute("ANALYZE complexity_nodes")
    row = connection.execute("SELECT count(*) FROM complexity_nodes").fetchone()
    assert row is not None  # noqa: S101 -- an aggregate always has a row
    medians = arrays.fetch(
        connection, statement("complexity_medians"), {"index": "i4", "median": "f8"}
    )
    base = np.full(row[0], np.nan)
    base[medians["index"]] = medians["median"]
    return base


def _write(connection: psycopg.Connection, scores: complexity.Values) -> int:
    connection.execute(
        "CREATE TEMPORARY TABLE complexity_scores"
        " (index integer NOT NULL, score double precision NOT NULL)"
    )
    (scored,) = np.nonzero(~np.isnan(scores))
    arrays.store(
        connection,
        "complexity_scores",
        {"index": scored, "score": scores[scored]},
        {"index": "i4", "score": "f8"},
    )
    connection.execute("ANALYZE complexity_scores")
    return connection.execute(statement("complexity_write"), {"version": VERSION}).rowcount
