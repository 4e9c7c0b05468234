INSERT INTO workers.fsrs_runs AS run (
    actor_id, reviews, items, outcome, reason,
    log_loss, rmse_bins, default_log_loss, default_rmse_bins
)
VALUES (
    %(actor_id)s, %(reviews)s, %(items)s, %(outcome)s, %(reason)s,
    %(log_loss)s, %(rmse_bins)s, %(default_log_loss)s, %(default_rmse_bins)s
)
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
