"""Where the partitioning of a table stands, and what is in its way."""

from __future__ import annotations

from migrations.partition import bookkeeping
from migrations.partition.engine import Engine, Outcome
from migrations.partition.locks import blockers


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
    if progress:
        rows, estimated, pending, ahead, default_rows = progress
        lines.append(f"  rows copied: {rows:,} of about {estimated:,}; months ahead: {ahead}")
        lines.append(f"  changes waiting in the log: {pending:,}")
        if default_rows is not None:
            lines.append(f"  rows in the default partition: {default_rows:,}")
    if record.waiting_for:
        lines.append(f"  holding back: {record.waiting_for}")
    elif record.paused_at:
        lines.append(f"  paused since {record.paused_at:%F %T %Z} by {record.paused_by}")
    lines += [f"  holds locks: {blocker}" for blocker in blockers(engine, record.id)]
    return Outcome("done", "\n".join(lines), rows=rows, months=len(months))
