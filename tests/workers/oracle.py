"""Community-Derived Complexity in plain Python, word for word from the design: the oracle.

Slow and simple on purpose; shares no code with `workers`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

GRADE_PENALTY = {1: 1.0, 2: 0.6, 3: 0.2, 4: 0.0}
W_GRADE, W_STABILITY, W_RETRIEVABILITY = 0.5, 0.3, 0.2
DECAY_PER_DAY = 0.01
PROPAGATION = 0.3


@dataclass(frozen=True)
class Review:
    """One review; the snapshot's three values are None where the row has none."""

    actor: int
    node: int
    rating: int
    at: datetime
    before: float | None = None
    after: float | None = None
    retrievability: float | None = None


def signal(review: Review) -> float:
    """Step 1: how hard this review says its card is, in [0, 1]."""
    penalty = GRADE_PENALTY[review.rating]
    before, after, retrievability = review.before, review.after, review.retrievability
    if not before or not after or retrievability is None:
        return penalty
    deficit = min(1.0, before / after)
    # Failing at certain recall: 1; passing at no hope of it: 0; what was expected: 1/2.
    recalled = 0 if review.rating == 1 else 1
    surprise = (1 + retrievability - recalled) / 2
    return W_GRADE * penalty + W_STABILITY * deficit + W_RETRIEVABILITY * surprise


def opinion(reviews: list[Review], now: datetime) -> float:
    """Step 2: one actor's mean signal on one node, recent reviews counting more."""
    weights = [
        math.exp(-DECAY_PER_DAY * (now - review.at).total_seconds() / 86400) for review in reviews
    ]
    signals = [signal(review) for review in reviews]
    return sum(w * s for w, s in zip(weights, signals, strict=True)) / sum(weights)


def reputation(reviews: list[Review], log_loss: float | None) -> float:
    """Step 3, the weight of one actor, from all the actor's reviews."""
    days = (max(r.at for r in reviews) - min(r.at for r in reviews)).total_seconds() / 86400
    experience = len(reviews) / (len(reviews) + 200)
    fit = 0.5 if log_loss is None else math.exp(-log_loss)
    tenure = days / (days + 30)
    return (experience + fit + tenure) / 3


def weighted_median(opinions: list[tuple[float, float]]) -> float:
    """Step 3: the median of (difficulty, weight) pairs, interpolated between weights' middles."""
    merged: dict[float, float] = defaultdict(float)
    for difficulty, weight in opinions:
        merged[round(difficulty, 12)] += weight
    half = sum(merged.values()) / 2
    placed: list[tuple[float, float]] = []
    passed = 0.0
    for difficulty in sorted(merged):
        placed.append((passed + merged[difficulty] / 2, difficulty))
        passed += merged[difficulty]
    if half <= placed[0][0]:
        return placed[0][1]
    for (left, low), (right, high) in pairwise(placed):
        if left <= half <= right:
            return low + (high - low) * (half - left) / (right - left)
    return placed[-1][1]


def scores(
    node_count: int,
    edges: list[tuple[int, int, float]],
    reviews: list[Review],
    log_losses: dict[int, float | None],
    now: datetime,
) -> dict[int, float]:
    """All steps: the score of each node; nodes that nothing leads to are missing."""
    by_actor: dict[int, list[Review]] = defaultdict(list)
    by_actor_and_node: dict[tuple[int, int], list[Review]] = defaultdict(list)
    for review in reviews:
        by_actor[review.actor].append(review)
        by_actor_and_node[review.actor, review.node].append(review)
    opinions: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for (actor, node), theirs in by_actor_and_node.items():
        weight = reputation(by_actor[actor], log_losses[actor])
        opinions[node].append((opinion(theirs, now), weight))
    base = {node: weighted_median(pairs) for node, pairs in opinions.items()}

    weights: dict[int, dict[int, float]] = {n: defaultdict(float) for n in range(node_count)}
    for source, target, weight in edges:
        if source != target and weight > 0:
            weights[source][target] += weight
            weights[target][source] += weight

    # Step 4. A node without reviews has no complexity of its own to hand on, or to keep.
    start = [base.get(node, 0.0) for node in range(node_count)]
    current = start
    for _ in range(2000):
        following = [
            (1 - PROPAGATION) * start[n]
            + PROPAGATION
            * sum(w / sum(weights[m].values()) * current[m] for m, w in weights[n].items())
            for n in range(node_count)
        ]
        change = max((abs(a - b) for a, b in zip(following, current, strict=True)), default=0)
        current = following
        if change < 1e-15:
            break

    # Step 5.
    if not base:
        return {}
    low, high = min(current[n] for n in base), max(current[n] for n in base)
    even = high - low <= 1e-12
    result = {n: 0.5 if even else (current[n] - low) / (high - low) for n in base}
    while True:
        ring: dict[int, float] = {}
        for node in range(node_count):
            known = {m: w for m, w in weights[node].items() if m in result}
            if node not in result and known:
                total = sum(known.values())
                ring[node] = sum(w * result[m] for m, w in known.items()) / total
        if not ring:
            return result
        result |= ring
