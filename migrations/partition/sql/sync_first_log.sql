-- No month is live yet.
    INSERT INTO {log} (month, {primary_key})
    SELECT DISTINCT date_trunc('month', {key})::date, {primary_key} FROM ({touched_rows}) AS rows
    WHERE NOT isfinite({key}) OR {key} IS NULL OR {locked};
    RETURN NULL;
