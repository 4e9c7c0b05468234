"""Merging the months' sums to one mean for every actor and card, some cards at a time.

The months that rest are kept merged, the *history*, so that a run reads little and adds only the
sums of the other months. What is merged of months that changed since is never corrected by
subtraction, which loses all digits where a much heavier sum is taken away: it is merged anew.

Weights factorise: with `end` the end of a review's month and T any later day,
exp(-decay (T - t)) = exp(-decay (T - end)) * exp(-decay (end - t)). T is the end of the newest
month of each actor and card themselves, so that nothing vanishes however long ago that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import groupby

import numpy as np
import numpy.typing as npt
import psycopg

from workers.complexity import Indices, Values
from workers.complexity_definition import Definition

# One actor's sums on one card, as complexity_store.sql packs them.
PAIR = np.dtype(
    [("card", ">i4"), ("actor", ">i4"), ("day", ">i4"), ("weight", ">f8"), ("signal", ">f8")]
)
Pairs = npt.NDArray[np.void]

# Actor-card pairs of the months left out of the history, as a share of those within, from which on
# they are taken in.
MOST_LEFT_OUT = 0.25

# Rows that are fetched at a time.
ROWS_AT_A_TIME = 64


def update_history(connection: psycopg.Connection, definition: Definition) -> None:
    """See to it that the history is that of its months as they are, and of most months."""
    months = connection.execute(
        "SELECT month, summed.pairs, history.version, summed.version"
        " FROM workers.complexity_months AS summed"
        " FULL JOIN workers.complexity_history_months AS history USING (month)"
    ).fetchall()
    valid = all(kept is None or kept == present for _, _, kept, present in months)
    pairs = {month: number for month, number, _, present in months if present is not None}
    left_out = sum(pairs[month] for month, _, kept, _ in months if kept is None)
    if valid and left_out <= MOST_LEFT_OUT * (sum(pairs.values()) - left_out):
        return
    # The newest month is the one that goes on changing.
    within = sorted(pairs)[:-1]
    connection.execute("TRUNCATE workers.complexity_history, workers.complexity_history_months")
    for part, found in _parts(connection, within):
        merged = _merged(found, definition.decay_per_day)
        connection.execute(
            "INSERT INTO workers.complexity_history (part, pairs) VALUES (%s, %b)",
            [part, merged.astype(PAIR).tobytes()],
        )
    connection.execute(
        "INSERT INTO workers.complexity_history_months"
        " SELECT month, version FROM workers.complexity_months WHERE month = ANY (%s)",
        [within],
    )


def opinions(
    connection: psycopg.Connection, definition: Definition
) -> Iterator[tuple[Indices, Indices, Values]]:
    """Yield card, actor and difficulty of every opinion, all on one card in the same block.

    In a transaction, after `update_history`.
    """
    left_out = [
        month
        for (month,) in connection.execute(
            "SELECT month FROM workers.complexity_months"
            " EXCEPT SELECT month FROM workers.complexity_history_months"
        )
    ]
    for _, found in _parts(connection, left_out, history=True):
        pairs = _merged(found, definition.decay_per_day)
        yield (
            pairs["card"].astype(np.int32),
            pairs["actor"].astype(np.int32),
            pairs["signal"].astype(np.float64) / pairs["weight"],
        )


def _parts(
    connection: psycopg.Connection, months: list[date], history: bool = False
) -> Iterator[tuple[int, Pairs]]:
    """Yield number and sums of each part, over these months and, if asked for, the history."""
    with connection.cursor("complexity_parts", binary=True) as cursor:
        cursor.itersize = ROWS_AT_A_TIME
        cursor.execute(
            "SELECT part, pairs FROM workers.complexity_sums WHERE month = ANY (%(months)s::date[])"
            " UNION ALL SELECT part, pairs FROM workers.complexity_history WHERE %(history)s"
            " ORDER BY part",
            {"months": months, "history": history},
        )
        for part, rows in groupby(cursor, key=lambda row: row[0]):
            # numpy joins them in the byte order of this machine.
            yield part, np.concatenate([np.frombuffer(row[1], PAIR) for row in rows])


def _merged(pairs: Pairs, decay_per_day: float) -> Pairs:
    """Merge the sums of each card and actor, as of the newest day of theirs; ordered by both."""
    key = (pairs["card"].astype(np.int64) << 32) | pairs["actor"]
    order = np.argsort(key)
    pairs, key = pairs[order], key[order]
    first = np.flatnonzero(np.concatenate(([True], np.diff(key) != 0)))
    day = pairs["day"].astype(np.int32)
    newest = np.maximum.reduceat(day, first)
    factor = np.exp(-decay_per_day * (np.repeat(newest, np.diff(np.append(first, len(key)))) - day))
    merged = pairs[first].copy()
    merged["day"] = newest
    merged["weight"] = np.add.reduceat(pairs["weight"] * factor, first)
    merged["signal"] = np.add.reduceat(pairs["signal"] * factor, first)
    return merged
