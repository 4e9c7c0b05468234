"""What the forward triggers try first, where every month is known to be live.

Plans are kept: of one statement by way of the new table for rows that are put in, and for single
rows that are changed or deleted of one statement a partition.
"""

from __future__ import annotations

from datetime import date

from psycopg import sql

from migrations.partition.statements import in_place, template


def rows_first(
    operation: str,
    parts: dict[str, sql.Composable],
    assigned: sql.Composable | None,
    lower: date,
    upper: date,
) -> sql.Composable:
    """Return the mirroring of all rows of an insertion or update by one statement."""
    condition = template(
        "sync_first_condition",
        **parts,
        lower=sql.Literal(lower.isoformat()),
        upper=sql.Literal(upper.isoformat()),
        locked=template("month_lock", **parts),
    )
    return template(
        "sync_first_mirror", in_place=in_place("forward", operation, parts, assigned, condition)
    )


def row_first(
    operation: str,
    key: str,
    unique: list[str],
    assigned: list[str],
    lock_class: sql.Composable,
    partitions: list[tuple[date, sql.Identifier]],
    upper: date,
) -> sql.Composable:
    """Return the mirroring of one updated or deleted row.

    `unique` are the columns that tell the copy's rows apart, `assigned` those that an update sets,
    `partitions` those of all months before `upper`, in order.
    """
    is_update = operation == "update"
    row = sql.SQL("n" if is_update else "o")
    columns = [*unique, *assigned] if is_update else unique
    moment = sql.SQL("{}.{}").format(row, sql.Identifier(key))
    known = [
        sql.SQL("{} >= {} AND {} < {}").format(
            moment, partitions[0][0].isoformat(), moment, upper.isoformat()
        )
    ]
    if is_update:
        known += [sql.SQL("n.{0} = o.{0}").format(sql.Identifier(column)) for column in unique]
    return template(
        "sync_first_row",
        columns=sql.SQL(", ").join(
            sql.SQL("{}.{}").format(row, sql.Identifier(column)) for column in columns
        ),
        known=sql.SQL(" AND ").join(known),
        locked=template("month_lock", lock_class=lock_class, key=moment),
        rows=sql.SQL("new_rows AS n, old_rows AS o" if is_update else "old_rows AS o"),
        by_month=_by_month(key, unique, assigned if is_update else [], partitions),
    )


def _by_month(
    key: str, unique: list[str], assigned: list[str], partitions: list[tuple[date, sql.Identifier]]
) -> sql.Composable:
    """Return the statements of all partitions, the newest first: most is written there."""
    which = sql.SQL(" AND ").join(
        sql.SQL("{0} = one.{0}").format(sql.Identifier(column)) for column in unique
    )
    values = sql.SQL(", ").join(
        sql.SQL("{0} = one.{0}").format(sql.Identifier(column)) for column in assigned
    )
    branches: list[sql.Composable] = []
    for month, partition in reversed(partitions):
        condition = sql.SQL("one.{} >= {}").format(sql.Identifier(key), month.isoformat())
        statement = (
            sql.SQL("UPDATE {} SET {} WHERE {}").format(partition, values, which)
            if assigned
            else sql.SQL("DELETE FROM {} WHERE {}").format(partition, which)
        )
        branches.append(sql.SQL("IF {} THEN\n                {};").format(condition, statement))
    chain = sql.SQL("\n            ELS").join(branches)
    return sql.SQL("{}\n            END IF;").format(chain)
