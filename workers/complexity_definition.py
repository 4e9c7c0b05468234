"""What defines the complexity, apart from the reviews."""

from __future__ import annotations

from dataclasses import dataclass

# Written beside every score; raised when the computation changes, so that all are written anew.
VERSION = 1


@dataclass(frozen=True)
class Definition:
    """What the computation leaves to configuration.

    The three weights of a review's signal sum to 1. `decay_per_day` is how fast a review loses
    weight with age, `propagation` the share of a node's complexity that its neighbours give.
    """

    weight_grade: float = 0.5
    weight_stability: float = 0.3
    weight_retrievability: float = 0.2
    decay_per_day: float = 0.01
    propagation: float = 0.3
