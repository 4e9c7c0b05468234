"""What is summed up of the reviews, and how it is known to be right still.

A trigger of ours notes, in the transaction that changes reviews, the months they lie in; the
transaction that sums a month up takes away the notes that its snapshot shows. Rows and notes
become visible together, so whatever a sum has not seen, a note is left for: late commits, rolled
back or killed writers, restored dumps are no cases of their own.

That holds for a table as long as it is the same table with the same trigger, which its *state*
tells (complexity_sources.sql). A table in a state not met before (a new partition, the other table
after a cutover or a rollback, one that was truncated or rewritten, or whose trigger was off for a
while) has every month noted once. Where there is no trigger, because the role may not create it or
somebody switched it off, that happens at every calculation: right as well, only slower.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import psycopg
from psycopg import errors, sql
from psycopg.rows import class_row

from workers.complexity_definition import Definition
from workers.database import BOOKKEEPING_LOCK, ensure_bookkeeping, statement

logger = logging.getLogger(__name__)

# Arbitrary, but the same for ever; see workers.database.
PLAN_LOCK = 7_305_112_004
MONTH_LOCK_CLASS = 730_511_205
NUMBERS_LOCK = 7_305_112_006

# What writers wait for the trigger at most, and how often it is tried in one calculation.
INSTALL_LOCK_TIMEOUT = "200ms"
INSTALL_ATTEMPTS = 3

# What is looked at to estimate how the reviews of a table spread over its months; and from how many
# months on (somebody's clock was wrong) they are counted instead.
SAMPLE_BYTES = 16_000_000
MOST_MONTHS = 2_400

# The bounds of a partition that is no default and ends on both sides.
_BOUNDS = re.compile(
    r"FOR VALUES FROM \('(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)'\)"
    r" TO \('(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)'\)"
)

# No month from then on is looked at: somebody's idea of infinity.
_NEVER = date(9999, 1, 1)

# Raised when the same reviews give other sums, or the sums are packed in another way.
SUMS_VERSION = 2


@dataclass(frozen=True)
class Source:
    """A table that holds reviews itself: review_logs, or a partition of it.

    `state` changes when changes of its rows may have gone unnoticed; None if they always may.
    """

    id: int
    name: str
    state: str | None
    installable: bool


def definition_text(definition: Definition) -> str:
    """Return what the sums of a month depend on besides its reviews."""
    return json.dumps(
        {
            "version": SUMS_VERSION,
            "weights": [
                definition.weight_grade,
                definition.weight_stability,
                definition.weight_retrievability,
            ],
            "decay_per_day": definition.decay_per_day,
        }
    )


def ensure_tracking(connection: psycopg.Connection) -> None:
    """Create our tables where they are missing, and the trigger on the reviews where we may."""
    ensure_tables(connection)
    if any(source.installable for source in find_sources(connection)):
        _install_trigger(connection)


def ensure_tables(connection: psycopg.Connection) -> None:
    """Create our tables where they are missing."""
    ensure_bookkeeping(connection)
    found = connection.execute(
        "SELECT to_regclass('workers.complexity_history_months') IS NOT NULL"
    ).fetchone()
    if found is None or not found[0]:
        with connection.transaction():
            # IF NOT EXISTS alone does not keep two sessions from creating the same at once.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [BOOKKEEPING_LOCK])
            connection.execute(statement("complexity_tables"))


def _install_trigger(connection: psycopg.Connection) -> None:
    body = sql.Literal(statement("review_changes_function").as_string())
    for _ in range(INSTALL_ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute(
                    "SELECT set_config('lock_timeout', %s, true)", [INSTALL_LOCK_TIMEOUT]
                )
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [BOOKKEEPING_LOCK])
                connection.execute(statement("review_changes").format(body=body))
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            continue
        except errors.InsufficientPrivilege as error:
            logger.warning(
                "changed reviews are not noted, so all are read every time: %s; let the owner of"
                " review_logs run `python -m workers install`",
                error.diag.message_primary,
            )
            return
        return
    logger.info("the table of reviews is busy: its changes will be noted from the next time on")


def find_sources(connection: psycopg.Connection) -> list[Source]:
    """Return the tables that hold the reviews, in the states of this moment."""
    body = statement("review_changes_function").as_string()
    with connection.cursor(row_factory=class_row(Source)) as cursor:
        return cursor.execute(statement("complexity_sources"), {"body": body}).fetchall()


def is_tracked(connection: psycopg.Connection) -> bool:
    """Tell whether every change of a review is noted."""
    return all(source.state is not None for source in find_sources(connection))


def states(sources: list[Source]) -> list[str]:
    """Return the states of the tables whose changes are noted."""
    return [source.state for source in sources if source.state is not None]


def begin_snapshot(connection: psycopg.Connection) -> None:
    """Make the transaction just begun see one moment, with no TRUNCATE or swap after it.

    Those look at no snapshot, so the lock has to come first; LOCK TABLE takes none.
    """
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.execute("LOCK TABLE review_logs IN ACCESS SHARE MODE")


def dirty_months(
    connection: psycopg.Connection, sources: list[Source], definition: Definition
) -> dict[date, int]:
    """Return the months to be summed up, with about the reviews each has, by the notes so far."""
    rows = connection.execute(
        statement("complexity_dirty"),
        {"definition": definition_text(definition), "states": states(sources)},
    )
    return dict(rows.fetchall())


def find_dirty_months(connection: psycopg.Connection, definition: Definition) -> dict[date, int]:
    """Return the same after every month of tables in states not met before was noted."""
    connection.execute("SELECT pg_advisory_lock(%s)", [PLAN_LOCK])
    try:
        with connection.transaction():
            begin_snapshot(connection)
            sources = find_sources(connection)
            met = {
                state
                for (state,) in connection.execute("SELECT state FROM workers.complexity_sources")
            }
            found: Counter[date] = Counter()
            for source in sources:
                if source.state is None or source.state not in met:
                    found.update(_discover(connection, source))
            _note(connection, list(found), states(sources))
            return {
                month: max(reviews, found[month])
                for month, reviews in dirty_months(connection, sources, definition).items()
            }
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s)", [PLAN_LOCK])


def _discover(connection: psycopg.Connection, source: Source) -> dict[date, int]:
    """Return the months the table may have reviews in, with about how many."""
    bounded = _bounded(connection, source)
    if bounded is not None:
        return bounded
    # The name is Postgres's own rendering of it, quoted where needed.
    name = sql.SQL(source.name)  # pyright: ignore[reportArgumentType]
    extent = statement("complexity_extent").format(source=name, id=source.id)
    first, last, size = connection.execute(extent).fetchone() or (None, None, 0)
    if first is None or last is None:
        return {}
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    percent = SAMPLE_BYTES * 100 / max(size, 1)
    if count > MOST_MONTHS or percent >= 100:
        return dict(
            connection.execute(statement("complexity_discover").format(source=name)).fetchall()
        )
    estimate = statement("complexity_estimate").format(source=name, percent=percent)
    estimated: dict[date, int] = dict(connection.execute(estimate).fetchall())
    # Months between that have none cost next to nothing.
    return {month: estimated.get(month, 0) for month in _months(first, last)}


def _months(first: date, last: date) -> list[date]:
    """Return the first days of the months from that of `first` to that of `last`."""
    numbers = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return [date(number // 12, number % 12 + 1, 1) for number in numbers]


def _bounded(connection: psycopg.Connection, source: Source) -> dict[date, int] | None:
    """Return the same of a partition by its bounds, without reading it; None if they do not tell.

    Of its rows every month gets the same share: how much work a month is, is only estimated.
    """
    row = connection.execute(statement("complexity_bounds").format(id=source.id)).fetchone()
    found = _BOUNDS.fullmatch(row[0]) if row and row[0] else None
    if row is None or found is None or row[1] < 0:
        return None
    start, end = (datetime.fromisoformat(text) for text in found.groups())
    months = _months(start.date(), (end - timedelta(microseconds=1)).date())
    if len(months) > MOST_MONTHS:
        return None
    return {month: row[1] // len(months) for month in months if month < _NEVER}


def _note(connection: psycopg.Connection, months: list[date], present: list[str]) -> None:
    connection.execute("INSERT INTO workers.review_changes SELECT unnest(%s::date[])", [months])
    connection.execute(
        "DELETE FROM workers.complexity_sources WHERE state <> ALL (%s::text[])", [present]
    )
    connection.execute(
        "INSERT INTO workers.complexity_sources SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
        [present],
    )
