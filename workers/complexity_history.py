"""Merging the months' sums: those that rest are kept merged, so that a run adds only the others.

What is merged of months that changed since is never corrected by subtraction, which loses all
digits where a much heavier sum is taken away: it is merged anew.
"""

from __future__ import annotations

from datetime import date

import psycopg
from psycopg import sql

from workers.complexity_definition import Definition
from workers.complexity_months import next_month
from workers.database import statement

# Actor-card pairs of the months left out of the history, as a share of those within, from which on
# they are taken in.
MOST_LEFT_OUT = 0.25

# The largest exponent that leaves room for the weights within a month (above exp(-31 * 10)).
MOST_DECAY = 300.0

_WITHIN = "SELECT * FROM workers.complexity_sums WHERE month = ANY ({})"
_LEFT_OUT = """
SELECT * FROM workers.complexity_history
UNION ALL
SELECT * FROM workers.complexity_sums WHERE month = ANY ({})
"""


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
    if not within:
        return
    merge = _merge(definition, within, sql.SQL(_WITHIN).format(within))
    connection.execute(
        sql.SQL(
            "INSERT INTO workers.complexity_history"
            " (month, actor_id, flashcard_id, weight, signal) {}"
        ).format(merge)
    )
    connection.execute(
        "INSERT INTO workers.complexity_history_months"
        " SELECT month, version FROM workers.complexity_months WHERE month = ANY (%s)",
        [within],
    )


def merged_sums(connection: psycopg.Connection, definition: Definition) -> sql.Composed:
    """Return the query of the sums per actor and card over all months."""
    months = connection.execute(
        "SELECT month, history.month IS NULL FROM workers.complexity_months"
        " LEFT JOIN workers.complexity_history_months AS history USING (month)"
    ).fetchall()
    left_out = [month for month, is_left_out in months if is_left_out]
    return _merge(definition, [month for month, _ in months], sql.SQL(_LEFT_OUT).format(left_out))


def _merge(definition: Definition, months: list[date], sums: sql.Composable) -> sql.Composed:
    reference: sql.Composable = sql.SQL("max(month) OVER (PARTITION BY actor_id, flashcard_id)")
    if months:
        first, last = min(months), max(months)
        days = (next_month(last) - first).days
        if definition.decay_per_day * days <= MOST_DECAY:
            # No need to look for each pair's own: nothing comes out as zero.
            reference = sql.SQL("{}::date").format(last.isoformat())
    return statement("complexity_merge").format(
        decay_per_day=sql.SQL("{}::double precision").format(definition.decay_per_day),
        reference=reference,
        sums=sums,
    )
