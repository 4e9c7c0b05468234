-- Nullable and without a default: nothing is rewritten, the lock is held for an instant.
ALTER TABLE actors
    ADD COLUMN IF NOT EXISTS fsrs_parameters jsonb,
    ADD COLUMN IF NOT EXISTS fsrs_log_loss double precision;
