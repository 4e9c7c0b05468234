"""Holding back between two pieces of work: while paused, or while others need the server more."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import psycopg

from migrations.partition import bookkeeping
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import Refused
from migrations.partition.locks import in_short_transaction, month_class

LAG_SECONDS = 10.0
"""How far a standby may be behind, where `--max-lag` does not say."""
_POLL_SECONDS = 0.5
_SAY_SECONDS = 30.0

_PAUSED = """
SELECT format('paused since %%s by %%s: `resume` lets it go on',
    to_char(paused_at, 'YYYY-MM-DD HH24:MI:SS "UTC"'), paused_by)
FROM partitioning.tables WHERE id = %s AND paused_at IS NOT NULL
"""

# To others than superusers and members of pg_read_all_stats (or pg_monitor) all but pid is null.
_LAG = """
SELECT coalesce(nullif(application_name, ''), 'pid ' || pid), pid, state IS NOT NULL AS is_visible,
    replay_lsn::text, extract(epoch FROM replay_lag)::float8,
    greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint
FROM pg_stat_replication WHERE state IS NULL OR state IN ('streaming', 'catchup')
"""

# Waits for the tables themselves or for a month; rows that writers want from each other are not
# our business.
_LOCK_WAITS = """
SELECT count(DISTINCT l.pid) FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
WHERE NOT l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.locktype = 'relation' AND (
            l.relation IN (to_regclass(%(live)s), to_regclass(%(log)s))
            OR l.relation IN (SELECT relid FROM pg_partition_tree(to_regclass(%(partitioned)s))))
        OR l.locktype = 'advisory' AND l.classid = %(months)s::oid)
    AND coalesce(a.application_name, '') NOT LIKE 'partitioning %%'
"""

_ACTIVE = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
    AND application_name NOT LIKE 'partitioning %'
"""


@dataclass
class Throttle:
    """What all connections of one run share: the last look at the server, and what it told."""

    engine: Engine
    table_id: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _looked: float = float("-inf")
    _said: float = float("-inf")
    _reason: str | None = None
    _behind: dict[int, tuple[str, float]] = field(default_factory=dict[int, tuple[str, float]])
    """By walsender: where it stands, and since when."""

    def begin(self, session: psycopg.Connection) -> None:
        """Look whether what the options ask for can be seen. Raises Refused if not."""
        options = self.engine.options
        hidden = any(not row[2] for row in session.execute(_LAG).fetchall())
        if hidden:
            lacking = "this role may not see the lag of replication (GRANT pg_read_all_stats TO it)"
            if options.max_lag_seconds is not None or options.max_lag_bytes is not None:
                raise Refused(f"--max-lag: {lacking}")
            self.engine.reporter.say(f"note: not held back by replication: {lacking}")
        if options.max_active is not None:
            row = session.execute(
                "SELECT pg_has_role('pg_read_all_stats', 'USAGE')"
                " OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
            ).fetchone()
            if row and not row[0]:
                self.engine.reporter.say(
                    "note: --max-active counts the sessions of this role alone:"
                    " GRANT pg_read_all_stats TO it for all"
                )

    def wait(self, session: psycopg.Connection) -> None:
        """Return when nothing speaks against the next piece of work; hold no transaction meanwhile.

        Raises Interrupted.
        """
        while True:
            self.engine.check_stop()
            with self._lock:
                if time.monotonic() - self._looked >= _POLL_SECONDS:
                    reason = self._look(session)
                    self._tell(session, reason)
                    self._looked = time.monotonic()
                reason = self._reason
            if reason is None:
                return
            self.engine.stopping.wait(_POLL_SECONDS)

    def _tell(self, session: psycopg.Connection, reason: str | None) -> None:
        """Note for `status`, and say to the operator, what is waited for; both without haste."""
        now = time.monotonic()
        begins_or_ends = (reason is None) != (self._reason is None)
        if begins_or_ends or (reason and now - self._said >= _SAY_SECONDS):
            bookkeeping.note_waiting(session, self.table_id, reason)
            self.engine.reporter.say(f"holding back: {reason}" if reason else "going on")
            self._said = now
        self._reason = reason

    def _look(self, session: psycopg.Connection) -> str | None:
        """Return why to hold back, None if nothing does."""
        paused = session.execute(_PAUSED, [self.table_id]).fetchone()
        if paused:
            return str(paused[0])
        return self._lag(session) or self._lock_waits(session) or self._active(session)

    def _lag(self, session: psycopg.Connection) -> str | None:
        options = self.engine.options
        most_seconds = LAG_SECONDS if options.max_lag_seconds is None else options.max_lag_seconds
        now = time.monotonic()
        reasons: list[str] = []
        rows = session.execute(_LAG).fetchall()
        known, self._behind = self._behind, {}
        for name, pid, _, position, seconds, octets in rows:
            if not position or not octets:
                continue
            # One that stands still reports no lag that grows.
            before, since = known.get(pid, (position, now))
            self._behind[pid] = (position, since if before == position else now)
            late = max(seconds or 0.0, now - self._behind[pid][1])
            if late > most_seconds:
                reasons.append(f"{name} is {late:.0f} s behind (--max-lag {most_seconds:g})")
            elif options.max_lag_bytes is not None and octets > options.max_lag_bytes:
                reasons.append(
                    f"{name} is {octets:,} bytes behind (--max-lag-bytes {options.max_lag_bytes})"
                )
        return "replication: " + "; ".join(reasons) if reasons else None

    def _lock_waits(self, session: psycopg.Connection) -> str | None:
        names = self.engine.names
        row = session.execute(
            _LOCK_WAITS,
            {
                "live": names.live.as_string(),
                "log": names.log.as_string(),
                "partitioned": names.partitioned.as_string(),
                "months": month_class(self.table_id),
            },
        ).fetchone()
        return f"{row[0]} sessions wait for locks on the table" if row and row[0] else None

    def _active(self, session: psycopg.Connection) -> str | None:
        most = self.engine.options.max_active
        if most is None:
            return None
        row = session.execute(_ACTIVE).fetchone()
        if row and row[0] > most:
            return f"{row[0]} sessions are active (--max-active {most})"
        return None


def pause(engine: Engine) -> Outcome:
    """Let every backfill of the table, on whatever host, hold back after its present slice."""
    record = bookkeeping.begun(engine.connection, engine.spec)
    if record.paused_at is not None:
        return Outcome("found", f"{engine.spec.table} is paused since {record.paused_at:%F %T %Z}")
    in_short_transaction(
        engine,
        "pause",
        lambda session: session.execute(
            "UPDATE partitioning.tables SET paused_at = now(), paused_by = format('%%s%%s',"
            " current_user, ' from ' || host(inet_client_addr())) WHERE id = %s",
            [record.id],
        ),
    )
    return Outcome(
        "done",
        f"{engine.spec.table} is paused: backfill stands still, the months that are live are kept"
        " in step. `resume` lets it go on",
    )


def resume(engine: Engine) -> Outcome:
    """Let it go on."""
    record = bookkeeping.begun(engine.connection, engine.spec)
    if record.paused_at is None:
        return Outcome("found", f"{engine.spec.table} is not paused")
    in_short_transaction(
        engine,
        "resume",
        lambda session: bookkeeping.update(session, record.id, paused_at=None, paused_by=None),
    )
    return Outcome("done", f"{engine.spec.table} goes on")
