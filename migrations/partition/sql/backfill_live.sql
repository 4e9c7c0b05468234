-- Waits for the writers of this month, no longer than the lock timeout; then the log is drained to
-- the end, and from the commit on writers keep the month in step themselves.
SELECT pg_advisory_xact_lock({lock_class}, {lock_month});
UPDATE partitioning.months SET state = 'live', generation = {generation}
WHERE table_id = {table_id} AND month = {month};
