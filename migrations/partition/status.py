"""Where the partitioning of a table stands, and what is in its way."""

from __future__ import annotations

from typing import Any

from migrations.partition import bookkeeping
from migrations.partition.engine import Engine, Outcome
from migrations.partition.locks import blockers, operators

# Those of other roles are seen only by members of pg_read_all_stats.
_LONG_TRANSACTIONS = """
SELECT format('pid %s (%s), transaction open for %s, %s: %s', pid, usename,
    date_trunc('second', clock_timestamp() - xact_start), state, left(query, 60))
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND xact_start < clock_timestamp() - interval '10 seconds'
    AND application_name NOT LIKE 'partitioning %'
ORDER BY xact_start LIMIT 5
"""


def status(engine: Engine) -> Outcome:
    """Return phase, months and pending changes as a result; the message has several lines."""
    connection = engine.connection
    record = bookkeeping.find(connection, engine.spec)
    if record is None:
        return Outcome("done", f"{engine.spec.table}: not begun; run plan, then prepare")
    months = bookkeeping.months(connection, record.id)
    states: dict[str, int] = {}
    for month in months:
        states[month.state] = states.get(month.state, 0) + 1
    progress = connection.execute(
        "SELECT rows_copied, rows_estimated, changes_pending, months_ahead, default_rows"
        " FROM partitioning.progress WHERE table_name = %s",
        [engine.spec.table],
    ).fetchone()
    lines = [f"{engine.spec.table}: {record.phase} is done"]
    if months:
        lines.append(
            f"  months: {len(months)}, {months[0].month:%Y-%m} through {months[-1].month:%Y-%m}: "
            + ", ".join(f"{count} {state}" for state, count in states.items())
        )
    rows = None
    at_work = operators(engine)
    details: dict[str, Any] = {
        "phase": record.phase.value,
        "months_by_state": states,
        "paused_since": record.paused_at.isoformat() if record.paused_at else None,
        # What a killed run noted, nobody waits for any more.
        "holding_back_for": record.waiting_for if at_work else None,
        "operators": at_work,
        "lock_holders": blockers(engine, record.id),
        "long_transactions": [row[0] for row in connection.execute(_LONG_TRANSACTIONS).fetchall()],
    }
    if progress:
        rows, estimated, pending, ahead, default_rows = progress
        details |= {
            "rows_estimated": estimated,
            "changes_pending": pending,
            "months_ahead": ahead,
            "default_rows": default_rows,
        }
        lines.append(f"  rows copied: {rows:,} of about {estimated:,}; months ahead: {ahead}")
        lines.append(f"  changes waiting in the log: {pending:,}")
        if default_rows is not None:
            lines.append(f"  rows in the default partition: {default_rows:,}")
    if details["holding_back_for"]:
        lines.append(f"  holding back: {record.waiting_for}")
    elif record.paused_at:
        lines.append(f"  paused since {record.paused_at:%F %T %Z} by {record.paused_by}")
    labels = {
        "operators": "at work",
        "lock_holders": "holds locks",
        "long_transactions": "cutover would wait for",
    }
    for name, label in labels.items():
        lines += [f"  {label}: {text}" for text in details[name]]
    return Outcome("done", "\n".join(lines), rows=rows, months=len(months), details=details)
