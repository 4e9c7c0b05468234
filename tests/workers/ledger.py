"""What came of the jobs of `fsrs-optimization`, as the queue tells it and the database saw it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from uuid import UUID

import psycopg
import valkey

from workers.jobs import fsrs_job_id

SCHEDULED = fsrs_job_id(UUID(int=0)).partition("0")[0]

DDL = """
CREATE SCHEMA ledger;
CREATE TABLE ledger.stored (actor_id uuid NOT NULL);
CREATE TABLE ledger.pace (seconds double precision NOT NULL);
INSERT INTO ledger.pace VALUES (0);
CREATE FUNCTION ledger.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO ledger.stored VALUES (NEW.actor_id);
    PERFORM pg_sleep(seconds) FROM ledger.pace WHERE seconds > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON workers.fsrs_runs
FOR EACH ROW EXECUTE FUNCTION ledger.note()
"""


class Ledger:
    """Notes each result that is stored from now on, while no job is worked on.

    `connection` is an administrator's, in autocommit.
    """

    def __init__(self, connection: psycopg.Connection, queue: valkey.Valkey, key: str) -> None:
        self._connection = connection
        self._queue: Any = queue
        self._key = key
        connection.execute(DDL)
        last = self._queue.xrevrange(f"{key}:events", count=1)
        self._since = f"({last[0][0]}" if last else "-"

    def pace(self, seconds: float) -> None:
        """Let every job take so much longer, without any work."""
        self._connection.execute("UPDATE ledger.pace SET seconds = %s", [seconds])

    def stored(self) -> Counter[str]:
        """Return how often a result was stored, by actor."""
        rows = self._connection.execute("SELECT actor_id::text FROM ledger.stored")
        return Counter(actor for (actor,) in rows)

    def ended(self, event: str) -> Counter[str]:
        """Return how often the queue announced `completed`, `failed` or `stalled`, by job."""
        events = self._queue.xrange(f"{self._key}:events", min=self._since)
        return Counter(told["jobId"] for _, told in events if told["event"] == event)

    def completed_for(self) -> Counter[str]:
        """Return how many jobs were completed since then, by actor."""
        found: Counter[str] = Counter()
        for job, times in self.ended("completed").items():
            # The scheduler's leave the queue when they are done; their ids tell for whom they were.
            scheduled = job.startswith(SCHEDULED)
            actor = (
                job[len(SCHEDULED) :] if scheduled else json.loads(self.job(job)["data"])["actorId"]
            )
            found[actor] += times
        return found

    def job(self, job_id: str) -> dict[str, str]:
        """Return what the queue holds of a job."""
        return self._queue.hgetall(f"{self._key}:{job_id}")

    def next_look(self) -> float:
        """Return in how many seconds a worker may look for stalled jobs again."""
        return max(0, self._queue.pttl(f"{self._key}:stalled-check")) / 1000
