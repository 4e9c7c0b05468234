"""Months, as first days, and which of them a table needs."""

from __future__ import annotations

from datetime import UTC, date, datetime

EARLIEST = date(1970, 1, 1)
"""Rows before it are taken for mistakes."""
SANE_MONTHS_AHEAD = 12
"""Rows later than this many months after the current one are taken for mistakes."""


def current_month() -> date:
    """Return the month it is now in UTC."""
    return datetime.now(UTC).date().replace(day=1)


def plus(month: date, months: int) -> date:
    """Return the month that many months later; earlier for a negative number."""
    number = 12 * month.year + month.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def through(first: date, last: date) -> list[date]:
    """Return the months from `first` through `last`."""
    count = 12 * (last.year - first.year) + last.month - first.month + 1
    return [plus(first, step) for step in range(count)]


def latest_sane(ahead: int) -> date:
    """Return the last month that may have rows: `ahead` after the current one, or a year."""
    return plus(current_month(), max(ahead, SANE_MONTHS_AHEAD))
