"""The complexity as one writes it first: every row fetched into Python, one UPDATE a node.

`literal` hands the rows to the tests' oracle as it stands. `calculate` is the same with what the
oracle computes again and again (an actor's reputation, the sum of a node's weights) computed once,
so that only the approach is slow: harder to beat than what was asked for.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from tests.workers import oracle

NOW = datetime(2026, 1, 1)  # noqa: DTZ001 -- the column has no time zone

_REVIEWS = (
    'SELECT "actorId", "flashcardId", rating, reviewed_at, state, "previousState" FROM review_logs'
)


@dataclass(frozen=True)
class _Application:
    """What both need of the application's tables besides its edges."""

    nodes: list[tuple[Any, Any]]
    number: dict[Any, int]
    """Of each node, its place among them."""
    log_losses: dict[Any, Any]
    reviews: Iterator[oracle.Review]


def _fetched(connection: psycopg.Connection) -> _Application:
    nodes = connection.execute("SELECT id, properties FROM nodes ORDER BY id").fetchall()
    number = {node: index for index, (node, _) in enumerate(nodes)}
    node_of_url = {
        properties["flashcardId"]: number[node]
        for node, properties in nodes
        if "flashcardId" in properties
    }
    node_of_card = {
        card: node_of_url[url]
        for card, url in connection.execute('SELECT id, "activityPubId" FROM flashcards')
    }
    log_losses = dict(connection.execute("SELECT id, fsrs_log_loss FROM actors").fetchall())
    reviews = (
        oracle.Review(
            actor,
            node_of_card[card],
            rating,
            at,
            previous["stability"],
            state["stability"],
            previous["retrievability"],
        )
        for actor, card, rating, at, state, previous in connection.execute(_REVIEWS).fetchall()
    )
    return _Application(nodes, number, log_losses, reviews)


def calculate(connection: psycopg.Connection) -> int:
    """Compute and write all scores; return how many."""
    application = _fetched(connection)
    found = _scores(connection, _base(application), application.number)
    _write(connection, application.nodes, found)
    return len(found)


def literal(connection: psycopg.Connection) -> int:
    """Do the same by the oracle itself; return how many."""
    application = _fetched(connection)
    number = application.number
    reviews = list(application.reviews)
    edges = [
        (number[source], number[target], 1.0)
        for source, target in connection.execute('SELECT "sourceId", "targetId" FROM edges')
    ]
    found = oracle.scores(len(application.nodes), edges, reviews, application.log_losses, NOW)
    _write(connection, application.nodes, found)
    return len(found)


def _write(
    connection: psycopg.Connection, nodes: list[tuple[Any, Any]], found: dict[int, float]
) -> None:
    with connection.transaction():
        for index, score in found.items():
            connection.execute(
                "UPDATE nodes SET properties = properties || %s::jsonb WHERE id = %s",
                [json.dumps({"cdc_score": score, "cdc_version": 1}), nodes[index][0]],
            )


def _base(application: _Application) -> dict[int, float]:
    by_actor: dict[Any, list[oracle.Review]] = defaultdict(list)
    by_pair: dict[tuple[Any, int], list[oracle.Review]] = defaultdict(list)
    for review in application.reviews:
        by_actor[review.actor].append(review)
        by_pair[review.actor, review.node].append(review)
    reputation = {
        actor: oracle.reputation(reviews, application.log_losses[actor])
        for actor, reviews in by_actor.items()
    }
    opinions: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for (actor, node), reviews in by_pair.items():
        opinions[node].append((oracle.opinion(reviews, NOW), reputation[actor]))
    return {node: oracle.weighted_median(pairs) for node, pairs in opinions.items()}


def _scores(
    connection: psycopg.Connection, base: dict[int, float], number: dict[Any, int]
) -> dict[int, float]:
    weights: list[dict[int, float]] = [defaultdict(float) for _ in number]
    for source, target in connection.execute('SELECT "sourceId", "targetId" FROM edges'):
        if source != target:
            weights[number[source]][number[target]] += 1
            weights[number[target]][number[source]] += 1
    total = [sum(neighbours.values()) for neighbours in weights]
    start = [base.get(node, 0.0) for node in range(len(number))]
    current = start
    while True:
        following = [
            (1 - oracle.PROPAGATION) * start[node]
            + oracle.PROPAGATION
            * sum(weight / total[other] * current[other] for other, weight in neighbours.items())
            for node, neighbours in enumerate(weights)
        ]
        change = max(abs(a - b) for a, b in zip(following, current, strict=True))
        current = following
        if change < 1e-12:
            break
    low, high = min(current[node] for node in base), max(current[node] for node in base)
    result = {node: (current[node] - low) / (high - low) for node in base}
    while True:
        ring: dict[int, float] = {}
        for node, neighbours in enumerate(weights):
            if node in result:
                continue
            known = {other: weight for other, weight in neighbours.items() if other in result}
            if known:
                share = sum(known.values())
                ring[node] = sum(w * result[other] for other, w in known.items()) / share
        if not ring:
            return result
        result |= ring
