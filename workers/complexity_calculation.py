"""The complexity job: from everybody's reviews to the score of every node.

A calculation sums up the months that need it (`workers.complexity_months`), and goes on from the
sums: opinions, medians, propagation, scores. Where there is much to sum up, that is left to jobs of
their own, and the calculation goes on when they are done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import psycopg

from workers import arrays, complexity
from workers.complexity_definition import VERSION, Definition
from workers.complexity_history import merged_sums, update_history
from workers.complexity_months import ROWS_PER_STATEMENT, Summed, batches, sum_months, tune
from workers.complexity_state import ensure_tables, find_dirty_months
from workers.database import CALCULATION_LOCK, statement

# Opinions that are fetched at a time; those on one node always come together.
OPINIONS_AT_A_TIME = 50_000


@dataclass(frozen=True)
class Result:
    """What a calculation read and wrote.

    `reviews` is how many the scores rest on, `read` how many of them were read for it by this job;
    `seconds` counts from the start of the calculation, jobs of others for it included.
    """

    version: int
    reviews: int
    read: int
    actors: int
    nodes: int
    edges: int
    scored: int
    written: int
    iterations: int
    seconds: float


@dataclass(frozen=True)
class HandedOut:
    """The jobs that a calculation waits for; `resume` is added to its own data for then."""

    children: list[dict[str, Any]]
    resume: dict[str, Any]


def work(
    connection: psycopg.Connection,
    definition: Definition,
    months: list[date] | None = None,
    handed_out_at: float | None = None,
    rows_per_job: int | None = None,
    replica_url: str | None = None,
) -> Result | HandedOut | Summed:
    """Do one job of the queue: sum up `months` if given, else calculate, or hand months out.

    Months are handed out once, at `handed_out_at` (seconds since 1970), if there are at least two
    jobs of about `rows_per_job` reviews to be made of them.
    """
    if months is not None:
        ensure_tables(connection)
        return sum_months(connection, definition, months, replica_url)
    if rows_per_job is not None and handed_out_at is None:
        ensure_tables(connection)
        jobs = batches(find_dirty_months(connection, definition), rows_per_job)
        if len(jobs) > 1:
            return HandedOut(
                [{"months": [month.isoformat() for month in job]} for job in jobs],
                {"handedOutAt": time.time()},
            )
    return calculate(connection, definition, replica_url, handed_out_at)


def calculate(
    connection: psycopg.Connection,
    definition: Definition,
    replica_url: str | None = None,
    began_at: float | None = None,
) -> Result:
    """Compute and write the score of every node, the scores in one transaction.

    Waits while another calculation runs on the same database. Reviews are read in transactions of
    their own: whoever changes their table waits for no more than those.
    """
    began_at = time.time() if began_at is None else began_at
    ensure_tables(connection)
    connection.execute("SELECT pg_advisory_lock(%s)", [CALCULATION_LOCK])
    try:
        dirty = find_dirty_months(connection, definition)
        read = sum(
            sum_months(connection, definition, batch, replica_url).read
            for batch in batches(dirty, ROWS_PER_STATEMENT)
        )
        return _finish(connection, definition, read, began_at)
    finally:
        # If the connection broke, the server has released the lock and dropped the tables.
        if not connection.broken:
            connection.execute("DISCARD TEMP")
            connection.execute("SELECT pg_advisory_unlock(%s)", [CALCULATION_LOCK])


def _finish(
    connection: psycopg.Connection, definition: Definition, read: int, began_at: float
) -> Result:
    with connection.transaction():
        tune(connection)
        update_history(connection, definition)
        connection.execute(statement("complexity_reputations"))
        reviews, actors = _counts(connection)
        base = _medians(connection, definition)
        edges = arrays.fetch(
            connection,
            statement("complexity_edges"),
            {"source": "i4", "target": "i4", "weight": "f8"},
        )
        neighbours = complexity.adjacency(
            len(base), edges["source"], edges["target"], edges["weight"]
        )
        scores, iterations = complexity.scores(base, neighbours, definition.propagation)
        result = Result(
            version=VERSION,
            reviews=reviews,
            read=read,
            actors=actors,
            nodes=len(base),
            edges=len(edges["source"]),
            scored=int((~np.isnan(scores)).sum()),
            written=_write(connection, scores),
            iterations=iterations,
            seconds=round(time.time() - began_at, 3),
        )
        connection.execute(statement("record_complexity_run"), vars(result))
    return result


def _counts(connection: psycopg.Connection) -> tuple[int, int]:
    """Return the number of reviews and of actors."""
    row = connection.execute(
        "SELECT (SELECT coalesce(sum(reviews), 0)::bigint FROM workers.complexity_months),"
        " (SELECT count(DISTINCT actor_id) FROM workers.complexity_actors)"
    ).fetchone()
    assert row is not None  # noqa: S101 -- aggregates always have a row
    return row[0], row[1]


def _medians(connection: psycopg.Connection, definition: Definition) -> complexity.Values:
    """Number the nodes; return the median of each, NaN where there are no opinions."""
    connection.execute(statement("complexity_nodes"))
    connection.execute(statement("complexity_cards"))
    connection.execute(
        "ANALYZE complexity_nodes; ANALYZE complexity_cards; ANALYZE complexity_reputations"
    )
    row = connection.execute("SELECT count(*) FROM complexity_nodes").fetchone()
    assert row is not None  # noqa: S101 -- an aggregate always has a row
    base = np.full(row[0], np.nan)
    for opinions in _opinions(connection, definition):
        index, median = complexity.weighted_medians(
            opinions["index"], opinions["difficulty"], opinions["reputation"]
        )
        base[index] = median
    return base


def _opinions(connection: psycopg.Connection, definition: Definition) -> Iterator[arrays.Columns]:
    """Yield the opinions by node and difficulty, never parting those on one node."""
    query = statement("complexity_opinions").format(merged=merged_sums(connection, definition))
    types = {"index": "i4", "difficulty": "f8", "reputation": "f8"}
    rest: arrays.Columns | None = None
    for block in arrays.stream(connection, query, types, OPINIONS_AT_A_TIME):
        if rest is not None:
            block = {name: np.concatenate((rest[name], block[name])) for name in types}
        last = int(np.count_nonzero(block["index"] != block["index"][-1]))
        yield {name: block[name][:last] for name in types}
        rest = {name: block[name][last:] for name in types}
    if rest is not None:
        yield rest


def _write(connection: psycopg.Connection, scores: complexity.Values) -> int:
    connection.execute(
        "CREATE TEMPORARY TABLE complexity_scores"
        " (index integer NOT NULL, score double precision NOT NULL)"
    )
    scored = np.flatnonzero(~np.isnan(scores))
    arrays.store(
        connection,
        "complexity_scores",
        {"index": scored, "score": scores[scored]},
        {"index": "i4", "score": "f8"},
    )
    connection.execute("ANALYZE complexity_scores")
    return connection.execute(statement("complexity_write"), {"version": VERSION}).rowcount
