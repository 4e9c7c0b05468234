"""The complexity job: from everybody's reviews to the score of every node.

A calculation sums up the months that need it (`workers.complexity_months`), and goes on from the
sums: opinions, medians, propagation, scores. Where there is much to sum up, that is left to jobs of
their own, and the calculation goes on when they are done.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import psycopg

from workers import arrays, complexity
from workers.complexity_definition import VERSION, Definition
from workers.complexity_graph import Graph, medians_of_nodes, read_graph
from workers.complexity_history import opinions
from workers.complexity_months import (
    ROWS_PER_STATEMENT,
    Summed,
    batches,
    even_batches,
    number_everybody,
    sum_months,
    tune,
)
from workers.complexity_sessions import Sessions
from workers.complexity_state import ensure_tracking, find_dirty_months, is_tracked
from workers.database import CALCULATION_LOCK, statement


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
    connections: int = 1,
) -> Result | HandedOut | Summed:
    """Do one job of the queue: sum up `months` if given, else calculate, or hand months out.

    Months are handed out once, at `handed_out_at` (seconds since 1970), if there are at least two
    jobs of about `rows_per_job` reviews to be made of them.
    """
    if months is not None:
        ensure_tracking(connection)
        number_everybody(connection)
        return sum_months(connection, definition, months, replica_url)
    if rows_per_job is not None and handed_out_at is None:
        ensure_tracking(connection)
        jobs = batches(find_dirty_months(connection, definition), rows_per_job)
        # What is read every time anyway would only be read twice.
        if len(jobs) > 1 and is_tracked(connection):
            return HandedOut(
                [{"months": [month.isoformat() for month in job]} for job in jobs],
                {"handedOutAt": time.time()},
            )
    return calculate(connection, definition, replica_url, handed_out_at, connections)


def calculate(
    connection: psycopg.Connection,
    definition: Definition,
    replica_url: str | None = None,
    began_at: float | None = None,
    connections: int = 1,
) -> Result:
    """Compute and write the score of every node, the scores in one transaction.

    They rest on the sums of one moment. Waits while another calculation runs on the same database.
    Reviews are read in transactions of their own: whoever changes their table waits for no more
    than those. `connections` statements run at a time.
    """
    began_at = time.time() if began_at is None else began_at
    ensure_tracking(connection)
    connection.execute("SELECT pg_advisory_lock(%s)", [CALCULATION_LOCK])
    try:
        number_everybody(connection)
        dirty = find_dirty_months(connection, definition)
        with Sessions(connection, connections) as sessions:
            graph = sessions.submit(read_graph)
            summed = [
                sessions.submit(sum_months, definition, months, replica_url)
                for months in even_batches(dirty, ROWS_PER_STATEMENT, sessions.count)
            ]
            read = sum(future.result().read for future in summed)
            return sessions.submit(_finish, definition, graph, read, began_at).result()
    finally:
        # If the connection broke, the server has released the lock.
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s)", [CALCULATION_LOCK])


def _finish(
    connection: psycopg.Connection,
    definition: Definition,
    graph_read: Future[Graph],
    read: int,
    began_at: float,
) -> Result:
    with connection.transaction():
        # Of one moment: others may sum months up meanwhile, for a calculation that waits for us.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tune(connection)
        reviews, actors = _counts(connection)
        medians = _medians_of_cards(connection, definition)
    graph = graph_read.result()
    scores, iterations = complexity.scores(
        medians_of_nodes(graph, medians), graph.neighbours, definition.propagation
    )
    with connection.transaction():
        # What the application changes meanwhile is waited for, and not a reason to begin anew.
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        tune(connection)
        result = Result(
            version=VERSION,
            reviews=reviews,
            read=read,
            actors=actors,
            nodes=len(graph.ids),
            edges=graph.edges,
            scored=int((~np.isnan(scores)).sum()),
            written=_write(connection, graph, scores),
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


def _medians_of_cards(connection: psycopg.Connection, definition: Definition) -> complexity.Values:
    """Return the median of each card, by its number; NaN where there are no opinions."""
    row = connection.execute("SELECT max(number) FROM workers.complexity_numbers").fetchone()
    numbers = (row[0] or 0) + 1 if row else 1
    reputations = np.full(numbers, np.nan)
    known = arrays.fetch(
        connection, statement("complexity_reputations"), {"actor": "i4", "reputation": "f8"}
    )
    reputations[known["actor"]] = known["reputation"]
    medians = np.full(numbers, np.nan)
    for card, actor, difficulty in opinions(connection, definition):
        reputation = reputations[actor]
        (order,) = np.nonzero(~np.isnan(reputation))
        order = order[np.lexsort((difficulty[order], card[order]))]
        index, median = complexity.weighted_medians(
            card[order], difficulty[order], reputation[order]
        )
        medians[index] = median
    return medians


def _write(connection: psycopg.Connection, graph: Graph, scores: complexity.Values) -> int:
    """Write the scores, NaN for none, where they are not those that are there; return how many."""
    connection.execute(
        "CREATE TEMPORARY TABLE complexity_scores"
        " (id uuid NOT NULL, score double precision NOT NULL) ON COMMIT DROP"
    )
    arrays.store(
        connection,
        "complexity_scores",
        {"id": graph.ids, "score": scores},
        {"id": "V16", "score": "f8"},
    )
    connection.execute("ANALYZE complexity_scores")
    return connection.execute(statement("complexity_write"), {"version": VERSION}).rowcount
