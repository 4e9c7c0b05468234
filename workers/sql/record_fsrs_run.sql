INSERT INTO workers.fsrs_runs AS run (
    actor_id, reviews, items, outcome, reason,
    log_loss, rmse_bins, default_log_loss, default_rmse_bins
)
SELECT
    id, %(reviews)s, %(items)s, %(outcome)s, %(reason)s,
    %(log_loss)s::double precision, %(rmse_bins)s::double precision, %(default_log_loss)s::double precision, %(default_rmse_bins)s::double precision
FROM actor
ON CONFLICT (actor_id) DO UPDATE
SET reviews = excluded.reviews,
    items = excluded.items,
    outcome = excluded.outcome,
    reason = excluded.reason,
    log_loss = excluded.log_loss,
    rmse_bins = excluded.rmse_bins,
    default_log_loss = excluded.default_log_loss,
    default_rmse_bins = excluded.default_rmse_bins,
    finished_at = excluded.finished_at
