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
from typing import Any, LiteralString

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


def opinions(
    connection: psycopg.Connection, definition: Definition
) -> Iterator[tuple[Indices, Indices, Values]]:
    """Yield card, actor and difficulty of every opinion, all on one card in the same block.

    In a transaction, and to the end: where the history is not that of its months as they are, or
    not of most months, it is written anew on the way.
    """
    months = connection.execute(
        "SELECT month, summed.pairs, history.version, summed.version"
        " FROM workers.complexity_months AS summed"
        " FULL JOIN workers.complexity_history_months AS history USING (month)"
    ).fetchall()
    valid = all(kept is None or kept == present for _, _, kept, present in months)
    pairs = {month: number for month, number, _, present in months if present is not None}
    left_out = [month for month, _, kept, _ in months if kept is None]
    outside = sum(pairs[month] for month in left_out)
    if valid and outside <= MOST_LEFT_OUT * (sum(pairs.values()) - outside):
        blocks = _with_history(connection, left_out, definition.decay_per_day)
    else:
        blocks = _with_new_history(connection, sorted(pairs), definition.decay_per_day)
    for merged in blocks:
        yield (
            merged["card"].astype(np.int32),
            merged["actor"].astype(np.int32),
            merged["signal"].astype(np.float64) / merged["weight"],
        )


def _with_history(
    connection: psycopg.Connection, months: list[date], decay_per_day: float
) -> Iterator[Pairs]:
    """Yield each part's sums: those of the history and of these months."""
    query = (
        "SELECT part, NULL, pairs FROM workers.complexity_sums WHERE month = ANY (%s::date[])"
        " UNION ALL SELECT part, NULL, pairs FROM workers.complexity_history ORDER BY part"
    )
    for _, rows in _parts(connection, query, [months]):
        yield _merged([pairs for _, pairs in rows], decay_per_day)


def _with_new_history(
    connection: psycopg.Connection, months: list[date], decay_per_day: float
) -> Iterator[Pairs]:
    """Yield the same of all months, and make the history of all but the newest.

    The newest is the one that goes on changing.
    """
    connection.execute("TRUNCATE workers.complexity_history, workers.complexity_history_months")
    query = (
        "SELECT part, month, pairs FROM workers.complexity_sums WHERE month = ANY (%s::date[])"
        " ORDER BY part"
    )
    for part, rows in _parts(connection, query, [months]):
        sums = [pairs for month, pairs in rows if month == months[-1]]
        history = [pairs for month, pairs in rows if month != months[-1]]
        if history:
            merged = _merged(history, decay_per_day)
            connection.execute(
                "INSERT INTO workers.complexity_history (part, pairs) VALUES (%s, %b)",
                [part, merged.tobytes()],
            )
            sums.append(merged)
        yield _merged(sums, decay_per_day)
    connection.execute(
        "INSERT INTO workers.complexity_history_months"
        " SELECT month, version FROM workers.complexity_months WHERE month = ANY (%s)",
        [months[:-1]],
    )


def _parts(
    connection: psycopg.Connection, query: LiteralString, parameters: list[Any]
) -> Iterator[tuple[int, list[tuple[date | None, Pairs]]]]:
    """Yield each part's number, and the months and sums of its rows, by a query that is sorted."""
    with connection.cursor("complexity_parts", binary=True) as cursor:
        cursor.itersize = ROWS_AT_A_TIME
        cursor.execute(query, parameters)
        for part, rows in groupby(cursor, key=lambda row: row[0]):
            yield part, [(month, np.frombuffer(pairs, PAIR)) for _, month, pairs in rows]


def _merged(sums: list[Pairs], decay_per_day: float) -> Pairs:
    """Merge the sums of each card and actor, as of the newest day of theirs; ordered by both."""
    pairs = np.concatenate(sums, dtype=PAIR)
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
