"""Community-Derived Complexity on the graph: propagation, normalisation, nodes without reviews.

Arrays have one entry a node, in the order of the nodes; `neighbours` is the symmetric matrix of
edge weights, zero where there is no edge.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

TOLERANCE = 1e-12
MAXIMUM_ITERATIONS = 10_000
# Opinions no further apart are the same, or else their order would hang on the last bit.
SAME_OPINION = 5e-13

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Matrix = sparse.csr_array


def weighted_medians(
    index: Indices, difficulty: Values, reputation: Values
) -> tuple[Indices, Values]:
    """Return the nodes in `index` and the weighted median over the opinions on each.

    One entry an opinion, sorted by node and difficulty. Each opinion stands at the middle of its
    weight, the reputation, on the line of all weight on its node; the median is the difficulty at
    half of it, interpolated between the opinions below and above. Opinions that are the same count
    as one with the weight of all.
    """
    if not len(index):
        return index, difficulty
    other_node = np.diff(index) != 0
    (first,) = np.nonzero(
        np.concatenate(([True], other_node | (np.diff(difficulty) > SAME_OPINION)))
    )
    index, difficulty = index[first], difficulty[first]
    weight = np.add.reduceat(reputation, first)
    (start,) = np.nonzero(np.concatenate(([True], np.diff(index) != 0)))
    end = np.append(start[1:], len(index))
    # Wider than a double, where there is such a type: the sum runs through all nodes.
    passed = np.cumsum(weight, dtype=np.longdouble)
    before = passed[start] - weight[start]
    half = (passed[end - 1] - before) / 2
    size = end - start
    middle = passed - weight / 2 - np.repeat(before, size)
    at_most_half = np.add.reduceat((middle <= np.repeat(half, size)).astype(np.int64), start)
    # The first opinion's middle is never beyond half, but for the last bit of the sum.
    below = start + np.maximum(at_most_half, 1) - 1
    above = np.minimum(below + 1, end - 1)
    gap = middle[above] - middle[below]
    part = np.divide(half - middle[below], gap, out=np.zeros_like(gap), where=gap > 0)
    low = difficulty[below]
    return index[start], low + (difficulty[above] - low) * part.astype(np.float64)


def adjacency(nodes: int, source: Indices, target: Indices, weight: Values) -> Matrix:
    """Return the neighbours of each node: edges count both ways, parallel edges add up."""
    one_way = sparse.coo_array((weight, (source, target)), shape=(nodes, nodes)).tocsr()
    return one_way + one_way.T


def propagate(base: Values, neighbours: Matrix, share: float) -> tuple[Values, int]:
    """Return the complexities that neighbours agree on, and the iterations that took.

    C(k+1)(n) = (1 - share) C(0)(n) + share sum over m of w(m,n) / sum_j w(m,j) C(k)(m), from
    C(0) = base, to convergence, which a share below 1 guarantees.
    """
    strength = neighbours.sum(axis=0)
    fractions = np.divide(1, strength, out=np.zeros_like(strength), where=strength > 0)
    # Each column, the neighbours of m, divided by its sum.
    transition = neighbours.multiply(fractions).tocsr()
    own = (1 - share) * base
    values = base
    for iteration in range(1, MAXIMUM_ITERATIONS + 1):
        following = own + share * (transition @ values)
        change = float(np.max(np.abs(following - values), initial=0))
        values = following
        # Relative to hubs, which collect of thousands: the last bit of theirs may go on flickering.
        if change <= TOLERANCE * max(1, float(np.max(following, initial=0))):
            return values, iteration
    return values, MAXIMUM_ITERATIONS


def normalise(values: Values) -> Values:
    """Map the values linearly onto [0, 1]; all are 1/2 where nothing tells them apart."""
    if not len(values):
        return values
    lowest, highest = float(values.min()), float(values.max())
    if highest - lowest <= TOLERANCE:
        return np.full_like(values, 0.5)
    return (values - lowest) / (highest - lowest)


def take_from_neighbours(scores: Values, neighbours: Matrix) -> Values:
    """Return the scores with NaN replaced by the weighted mean of the neighbours' scores.

    Ring by ring: nodes next to scored ones first, then those next to them. NaN stays where no path
    leads to a scored node.
    """
    scores = scores.copy()
    known = ~np.isnan(scores)
    while True:
        weight = neighbours @ known.astype(np.float64)
        reached = ~known & (weight > 0)
        if not reached.any():
            return scores
        total = neighbours @ np.where(known, scores, 0)
        scores[reached] = total[reached] / weight[reached]
        known |= reached


def scores(base: Values, neighbours: Matrix, share: float) -> tuple[Values, int]:
    """Return the score of each node in [0, 1], and the iterations of the propagation.

    `base` is C(0), NaN for nodes without reviews: these have nothing of their own to propagate,
    and take the score of their neighbours in the end; NaN where there is none.
    """
    reviewed = ~np.isnan(base)
    values, iterations = propagate(np.where(reviewed, base, 0), neighbours, share)
    result = np.full_like(base, np.nan)
    result[reviewed] = normalise(values[reviewed])
    return take_from_neighbours(result, neighbours), iterations
