"""Merging the months' sums to one mean for every actor and card, a part at a time.

The months that rest are kept merged and packed, the *history*, so that a run reads few rows and
adds only the sums of the other months. What is merged of months that changed since is never
corrected by subtraction, which loses all digits where a much heavier sum is taken away: it is
merged anew.

Weights factorise: with `end` the end of a review's month and T any later day,
exp(-decay (T - t)) = exp(-decay (T - end)) * exp(-decay (end - t)). T is the end of the newest
month of each actor and card themselves, so that nothing vanishes however long ago that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import psycopg
from psycopg import sql

from workers.arrays import Columns
from workers.complexity import Indices, Values
from workers.complexity_definition import Definition
from workers.complexity_months import next_month
from workers.database import statement

EPOCH = date(2000, 1, 1)
PAIRS_PER_PART = 16_384
_LAYOUT = np.dtype(
    [("card", ">i4"), ("actor", ">i4"), ("day", ">i4"), ("weight", ">f8"), ("signal", ">f8")]
)
_TYPES = {"card": "i4", "actor": "i4", "day": "i4", "weight": "f8", "signal": "f8"}

# Actor-card pairs of the months left out of the history, as a share of those within, from which on
# they are taken in.
MOST_LEFT_OUT = 0.25

# The largest exponent that leaves room for the weights within a month (above exp(-31 * 10)).
MOST_DECAY = 300.0


def update_history(connection: psycopg.Connection, definition: Definition) -> None:
    """See to it that the history is that of its months as they are, and of most months."""
    connection.execute(statement("complexity_number"))
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
    if not within:
        return
    connection.execute(
        sql.SQL("INSERT INTO workers.complexity_history (part, pairs) {}").format(
            _packed(definition, within)
        )
    )
    connection.execute(
        "INSERT INTO workers.complexity_history_months"
        " SELECT month, version FROM workers.complexity_months WHERE month = ANY (%s)",
        [within],
    )


def _packed(definition: Definition, months: list[date]) -> sql.Composed:
    """Return the query of complexity_pack.sql over these months."""
    reference: sql.Composable = sql.SQL("max(day) OVER (PARTITION BY card.number, actor.number)")
    if months:
        end = next_month(max(months))
        if definition.decay_per_day * (end - min(months)).days <= MOST_DECAY:
            # No need to look for each pair's own: nothing vanishes.
            reference = sql.SQL("{}::integer").format((end - EPOCH).days)
    return statement("complexity_pack").format(
        decay_per_day=sql.SQL("{}::double precision").format(definition.decay_per_day),
        reference=reference,
        months=sql.SQL("{}::date[]").format(months),
        pairs_per_part=PAIRS_PER_PART,
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
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE complexity_recent AS {}").format(
            _packed(definition, left_out)
        )
    )
    history = _parts(connection, "SELECT pairs FROM workers.complexity_history WHERE part = %s")
    recent = _parts(connection, "SELECT pairs FROM complexity_recent WHERE part = %s")
    for pairs in _side_by_side(history, recent):
        yield _means(pairs, definition.decay_per_day)


def _parts(connection: psycopg.Connection, query: str) -> Iterator[Columns]:
    part = 0
    with connection.cursor(binary=True) as cursor:
        while row := cursor.execute(query.encode(), [part]).fetchone():
            pairs = np.frombuffer(row[0], _LAYOUT)
            yield {name: pairs[name].astype(kind) for name, kind in _TYPES.items()}
            part += 1


def _side_by_side(one: Iterator[Columns], other: Iterator[Columns]) -> Iterator[Columns]:
    """Yield what both have, in order of cards, all of a card together."""
    streams = [one, other]
    empty = {name: np.zeros(0, kind) for name, kind in _TYPES.items()}
    ahead: list[Columns] = [empty, empty]
    more = [True, True]
    while any(more):
        for number, stream in enumerate(streams):
            # A part that ends within a card goes on with the next one.
            while more[number] and not _has_two_cards(ahead[number]):
                part = next(stream, None)
                if part is None:
                    more[number] = False
                else:
                    ahead[number] = _joined([ahead[number], part])
        ends = [pairs["card"][-1] for pairs, goes_on in zip(ahead, more, strict=True) if goes_on]
        limit = min(ends, default=None)
        taken: list[Columns] = []
        for number, pairs in enumerate(ahead):
            cards = pairs["card"]
            end = len(cards) if limit is None else int(np.count_nonzero(cards < limit))
            taken.append({name: values[:end] for name, values in pairs.items()})
            ahead[number] = {name: values[end:] for name, values in pairs.items()}
        yield _joined(taken)


def _has_two_cards(pairs: Columns) -> bool:
    cards = pairs["card"]
    return len(cards) > 0 and bool(cards[0] != cards[-1])


def _joined(blocks: list[Columns]) -> Columns:
    return {name: np.concatenate([block[name] for block in blocks]) for name in _TYPES}


def _means(pairs: Columns, decay_per_day: float) -> tuple[Indices, Indices, Values]:
    """Merge the sums of each card and actor; return card, actor and mean."""
    key = (pairs["card"].astype(np.int64) << 32) | pairs["actor"]
    order = np.argsort(key)
    key = key[order]
    (first,) = np.nonzero(np.concatenate((np.ones(min(1, len(key)), bool), np.diff(key) != 0)))
    if not len(first):
        return pairs["card"], pairs["actor"], pairs["weight"]
    day = pairs["day"][order]
    size = np.diff(np.append(first, len(key)))
    age = np.repeat(np.maximum.reduceat(day, first), size) - day
    factor = np.exp(-decay_per_day * age)
    weight = np.add.reduceat(pairs["weight"][order] * factor, first)
    signal = np.add.reduceat(pairs["signal"][order] * factor, first)
    found = order[first]
    return pairs["card"][found], pairs["actor"][found], signal / weight
