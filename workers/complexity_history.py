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
from datetime import UTC, date, datetime
from itertools import groupby

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from workers.arrays import Columns
from workers.complexity import Indices, Values
from workers.complexity_definition import Definition
from workers.complexity_months import next_month
from workers.complexity_state import definition_text

# One actor's sums on one card in a month, as complexity_store.sql packs them; and merged of several
# months, as of a day, the end of the newest of them. `pair` is 2^32 times the card, plus the actor.
SUMS = np.dtype([("pair", ">i8"), ("weight", ">f8"), ("signal", ">f8")])
MERGED = np.dtype([("pair", "<i8"), ("day", "<i4"), ("weight", "<f8"), ("signal", "<f8")])

# Actor-card pairs of the months left out of the history, as a share of those within, from which on
# they are taken in.
MOST_LEFT_OUT = 0.25

# Rows that are fetched at a time, while those before are merged.
ROWS_AT_A_TIME = 64

_FETCH = sql.SQL("FETCH {} FROM complexity_parts").format(ROWS_AT_A_TIME)


class ForeignSumsError(Exception):
    """Months were summed up meanwhile by workers of another version or with other settings."""


def opinions(
    connection: psycopg.Connection, definition: Definition
) -> Iterator[tuple[Indices, Indices, Values]]:
    """Yield card, actor and difficulty of every opinion, all on one card in the same block.

    In a transaction, and to the end: where the history is not that of its months as they are, or
    not of most months, it is written anew on the way. Raises `ForeignSumsError`.
    """
    months = connection.execute(
        "SELECT month, summed.pairs, history.version, summed.version, summed.definition"
        " FROM workers.complexity_months AS summed"
        " FULL JOIN workers.complexity_history_months AS history USING (month)"
    ).fetchall()
    ours = definition_text(definition)
    if any(text is not None and text != ours for *_, text in months):
        raise ForeignSumsError(
            "months were summed up meanwhile by workers of another version or with other settings"
        )
    valid = all(kept is None or kept == present for _, _, kept, present, _ in months)
    pairs = {month: number for month, number, _, present, _ in months if present is not None}
    left_out = [month for month, _, kept, _, _ in months if kept is None]
    outside = sum(pairs[month] for month in left_out)
    if valid and outside <= MOST_LEFT_OUT * (sum(pairs.values()) - outside):
        blocks = _with_history(connection, left_out, definition.decay_per_day)
    else:
        blocks = _with_new_history(connection, sorted(pairs), definition.decay_per_day)
    for merged in blocks:
        yield (
            (merged["pair"] >> 32).astype(np.int32),
            merged["pair"].astype(np.int32),  # the lower half
            merged["signal"] / merged["weight"],
        )


def _with_history(
    connection: psycopg.Connection, months: list[date], decay_per_day: float
) -> Iterator[Columns]:
    """Yield each part's sums: those of the history and of these months."""
    query = sql.SQL(
        "SELECT part, month, pairs FROM workers.complexity_sums WHERE month = ANY ({}::date[])"
        " UNION ALL SELECT part, NULL, pairs FROM workers.complexity_history ORDER BY part"
    ).format(months)
    for _, rows in _parts(connection, query):
        yield _merged([sums for _, sums in rows], decay_per_day)


def _with_new_history(
    connection: psycopg.Connection, months: list[date], decay_per_day: float
) -> Iterator[Columns]:
    """Yield the same of all months, and make the history of all before the open one.

    That is the one that goes on changing: the present month, or the newest where that is earlier.
    """
    open_month = min([datetime.now(UTC).date().replace(day=1), *months[-1:]])
    closed = [month for month in months if month < open_month]
    connection.execute("TRUNCATE workers.complexity_history, workers.complexity_history_months")
    query = sql.SQL(
        "SELECT part, month, pairs FROM workers.complexity_sums WHERE month = ANY ({}::date[])"
        " ORDER BY part"
    ).format(months)
    for part, rows in _parts(connection, query):
        newest = [sums for month, sums in rows if month not in closed]
        history = [sums for month, sums in rows if month in closed]
        if history:
            merged = _merged(history, decay_per_day)
            connection.execute(
                "INSERT INTO workers.complexity_history (part, pairs) VALUES (%s, %b)",
                [part, _packed(merged)],
            )
            newest.append(merged)
        yield _merged(newest, decay_per_day)
    connection.execute(
        "INSERT INTO workers.complexity_history_months"
        " SELECT month, version FROM workers.complexity_months WHERE month = ANY (%s)",
        [closed],
    )


def _parts(
    connection: psycopg.Connection, query: sql.Composable
) -> Iterator[tuple[int, list[tuple[date | None, Columns]]]]:
    """Yield each part's number, and the months and sums of its rows, by a query that is sorted.

    Its consumer's statements are sent without waiting for their answers: an error of theirs comes
    up here.
    """
    for part, rows in groupby(_read_ahead(connection, query), key=lambda row: row[0]):
        yield part, [(month, _unpacked(month, packed)) for _, month, packed in rows]


def _read_ahead(
    connection: psycopg.Connection, query: sql.Composable
) -> Iterator[tuple[int, date | None, bytes]]:
    """Yield the rows of a query; while some are worked on the server makes the next ready."""
    with connection.pipeline():
        connection.execute(
            sql.SQL("DECLARE complexity_parts NO SCROLL CURSOR FOR {}").format(query)
        )
        following = connection.execute(_FETCH, binary=True)
        while rows := following.fetchall():
            following = connection.execute(_FETCH, binary=True)
            yield from rows
        connection.execute("CLOSE complexity_parts")


def _unpacked(month: date | None, packed: bytes) -> Columns:
    """Return a row's sums, those of a month (not of the history) as of its end."""
    if month is None:
        return _columns(np.frombuffer(packed, MERGED))
    sums = _columns(np.frombuffer(packed, SUMS))
    return {**sums, "day": np.full(len(sums["pair"]), next_month(month).toordinal(), np.int32)}


def _columns(table: npt.NDArray[np.void]) -> Columns:
    return {name: table[name] for name in table.dtype.names or ()}


def _packed(merged: Columns) -> bytes:
    """Return a row of the history."""
    table = np.empty(len(merged["pair"]), MERGED)
    for name, column in merged.items():
        table[name] = column
    return table.tobytes()


def _merged(sums: list[Columns], decay_per_day: float) -> Columns:
    """Merge the sums of each card and actor, as of the newest day of theirs; ordered by both."""
    pair, day, weight, signal = (
        np.concatenate([columns[name] for columns in sums]) for name in MERGED.names or ()
    )
    order = np.argsort(pair)
    pair, day = pair[order], day[order]
    first = np.flatnonzero(np.concatenate(([True], pair[1:] != pair[:-1])))
    newest = np.maximum.reduceat(day, first)
    age = np.repeat(newest, np.diff(np.append(first, len(pair)))) - day
    factor = np.exp(-decay_per_day * age)
    return {
        "pair": pair[first],
        "day": newest,
        "weight": np.add.reduceat(weight[order] * factor, first),
        "signal": np.add.reduceat(signal[order] * factor, first),
    }
