"""The partitions that a table has, as the catalogue tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

import psycopg

from migrations.partition import calendar

_PARTITIONS = """
SELECT n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid), i.inhdetachpending
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.inhparent = %s ORDER BY c.relname
"""
_BOUNDS = re.compile(r"FOR VALUES FROM \((?:'(.+?)'|MINVALUE)\) TO \((?:'(.+?)'|MAXVALUE)\)")


@dataclass(frozen=True)
class Partition:
    """One partition; lower and upper are days, None for no bound on that side."""

    schema: str
    name: str
    is_default: bool
    lower: date | None
    upper: date | None
    is_detaching: bool
    """Whether a DETACH CONCURRENTLY was begun and has not ended."""

    @property
    def month(self) -> date | None:
        """The month that it holds, None if it is not just one."""
        if self.lower is None or self.lower.day != 1 or self.upper is None:
            return None
        return self.lower if self.upper == calendar.plus(self.lower, 1) else None

    def covers(self, month: date) -> bool:
        """Tell whether all rows of a month belong here."""
        return (
            not self.is_default
            and not self.is_detaching
            and (self.lower is None or self.lower <= month)
            and (self.upper is None or self.upper >= calendar.plus(month, 1))
        )


def partitions(connection: psycopg.Connection, oid: int) -> list[Partition]:
    """Return the partitions of a table, those being detached among them."""
    return [
        _partition(schema, name, bound, pending)
        for schema, name, bound, pending in connection.execute(_PARTITIONS, [oid])
    ]


def _partition(schema: str, name: str, bound: str, pending: bool) -> Partition:
    match = _BOUNDS.fullmatch(bound)
    lower, upper = (_day(text) for text in match.groups()) if match else (None, None)
    return Partition(schema, name, match is None, lower, upper, pending)


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text[:10]) if text else None
