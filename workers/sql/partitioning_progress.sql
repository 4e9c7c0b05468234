SELECT
    table_name,
    phase,
    months,
    months_live,
    rows_estimated,
    rows_copied,
    changes_pending,
    months_ahead,
    default_rows,
    date_part('epoch', updated_at) AS updated_at
FROM partitioning.progress
ORDER BY table_name
