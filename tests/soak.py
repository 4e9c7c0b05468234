"""How much of a test is run: `make soak` runs the same code with larger counts."""

from __future__ import annotations

import os

FACTOR = int(os.environ.get("SOAK", "1"))
"""What counts are multiplied by; 1 in `make test`."""


def times(count: int, most: int | None = None) -> int:
    """Return `count` as many times as asked for, at most `most`."""
    wanted = count * FACTOR
    return wanted if most is None else min(wanted, most)
