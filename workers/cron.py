"""Cron patterns, as the queue library evaluates them."""

from __future__ import annotations


def require_pattern(value: str) -> str:
    """Return the pattern. Raises ValueError if it is none, or one whose time never comes."""
    # What bullmq takes, imported where it is needed.
    from croniter import CroniterBadDateError, croniter

    if not croniter.is_valid(value):
        raise ValueError("is no cron pattern (minute hour day month weekday)")
    try:
        croniter(value).get_next()
    except CroniterBadDateError:
        raise ValueError("is a cron pattern whose time never comes") from None
    return value
