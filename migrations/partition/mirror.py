"""What the forward triggers try first, where every month is known to be live.

Plans are kept: of one statement by way of the new table for rows that are put in, and for single
rows that are changed or deleted of one statement a partition.
"""

from __future__ import annotations

from datetime import date
from typing import LiteralString

from psycopg import sql

from migrations.partition import calendar
from migrations.partition.statements import in_place, template

Partitions = list[tuple[date, sql.Identifier]]
"""Of all months that are live, in order and without a gap."""


def rows_first(
    operation: str,
    parts: dict[str, sql.Composable],
    assignments: sql.Composable | None,
    partitions: Partitions,
) -> sql.Composable:
    """Return the mirroring of all rows of an insertion or update by one statement."""
    lower, upper = _bounds(partitions)
    condition = template("sync_first_condition", **parts, lower=lower, upper=upper)
    return template(
        "sync_first_mirror", in_place=in_place("forward", operation, parts, assignments, condition)
    )


def row_first(
    operation: str,
    parts: dict[str, sql.Composable],
    unique: list[str],
    assigned: list[str],
    partitions: Partitions,
) -> sql.Composable:
    """Return the mirroring of one updated or deleted row.

    `unique` are the columns that tell the copy's rows apart, `assigned` those that an update sets.
    """
    which = _each("{0} = one.{0}", unique, " AND ")
    if operation == "update":
        row, rows = sql.SQL("n"), sql.SQL("new_rows AS n, old_rows AS o")
        columns = [*unique, *assigned]
        as_before = sql.SQL(" AND {}").format(_each("n.{0} = o.{0}", unique, " AND "))
        change, values = sql.SQL("UPDATE "), _each("{0} = one.{0}", assigned, ", ")
        ending = sql.SQL(" SET {} WHERE {}").format(values, which)
    else:
        row, rows = sql.SQL("o"), sql.SQL("old_rows AS o")
        columns = unique
        as_before = sql.SQL("")
        change, ending = sql.SQL("DELETE FROM "), sql.SQL(" WHERE {}").format(which)
    key = sql.SQL("{}.{}").format(row, parts["key"])
    lower, upper = _bounds(partitions)
    # The newest first: most is written there.
    branches = [
        sql.SQL("IF one.{} >= {} THEN\n                {}{}{};").format(
            parts["key"], month.isoformat(), change, partition, ending
        )
        for month, partition in reversed(partitions)
    ]
    return template(
        "sync_first_row",
        columns=sql.SQL(", ").join(
            sql.SQL("{}.{}").format(row, sql.Identifier(column)) for column in columns
        ),
        known=sql.SQL("{0} >= {1} AND {0} < {2}{3}").format(key, lower, upper, as_before),
        locked=template("month_lock", lock_class=parts["lock_class"], key=key),
        rows=rows,
        by_month=sql.SQL("{}\n            END IF;").format(
            sql.SQL("\n            ELS").join(branches)
        ),
    )


def _bounds(partitions: Partitions) -> tuple[sql.Literal, sql.Literal]:
    first, last = partitions[0][0], partitions[-1][0]
    return sql.Literal(first.isoformat()), sql.Literal(calendar.plus(last, 1).isoformat())


def _each(form: LiteralString, columns: list[str], between: LiteralString) -> sql.Composable:
    return sql.SQL(between).join(sql.SQL(form).format(sql.Identifier(name)) for name in columns)
