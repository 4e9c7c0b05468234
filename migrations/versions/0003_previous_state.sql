-- Nullable and without a default: nothing is rewritten, the lock is held for an instant.
-- On a partitioned table the partitions get the column with it.
ALTER TABLE review_logs
    ADD COLUMN IF NOT EXISTS "previousState" jsonb;
