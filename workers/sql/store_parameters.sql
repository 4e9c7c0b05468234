UPDATE actors
SET fsrs_parameters = %(parameters)s,
    fsrs_log_loss = %(log_loss)s
WHERE id = %(actor_id)s
RETURNING id
