-- No month is live yet.
    INSERT INTO {log} (month, {primary_key})
    SELECT DISTINCT date_trunc('month', {key})::date, {primary_key} FROM ({touched_rows}) AS rows
    WHERE NOT isfinite({key}) OR {key} IS NULL OR pg_advisory_xact_lock_shared({lock_class},
        (12 * date_part('year', {key}) + date_part('month', {key}))::integer) IS NOT NULL;
    RETURN NULL;
