-- Mirrors one {operation} statement. Months that are live get the rows at once, by way of the old
-- table's present state; the keys of all others go to the change log. A writer whose snapshot is
-- older than a month's going live sees it as not live, rightly: it does not see the copied rows.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $body$
DECLARE
    touched record;
    partition_of_month text;
    stored bigint;
BEGIN
    FOR touched IN
        SELECT date_trunc('month', {key})::date AS month,
            count(*) FILTER (WHERE is_new) AS rows
        FROM ({touched_rows}) AS rows
        GROUP BY 1 ORDER BY 1
    LOOP
        partition_of_month := NULL;
        IF isfinite(touched.month) THEN
            -- Held to the end of the transaction: the month cannot go live in between.
            PERFORM pg_advisory_xact_lock_shared({lock_class},
                (12 * extract(year FROM touched.month) + extract(month FROM touched.month))::integer);
            -- The generation tells apart what an old snapshot knows of an earlier sync, undone since.
            SELECT m.partition_name INTO partition_of_month FROM partitioning.months AS m
            WHERE m.table_id = {table_id} AND m.month = touched.month AND m.state = 'live'
                AND m.generation = {generation};
        END IF;
        IF partition_of_month IS NOT NULL THEN
            IF TG_OP <> 'INSERT' THEN
                EXECUTE format($delete$
                    DELETE FROM {schema}.%I WHERE ({primary_key}) IN (
                        SELECT {primary_key} FROM ({touched_rows}) AS rows
                        WHERE {key} >= $1 AND {key} < $1 + interval '1 month')
                    $delete$, partition_of_month) USING touched.month;
            END IF;
            INSERT INTO {partitioned} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM {live}
            WHERE ({primary_key}) IN (SELECT {primary_key} FROM ({touched_rows}) AS rows)
                AND {key} >= touched.month AND {key} < touched.month + interval '1 month'
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS stored = ROW_COUNT;
            -- Fewer: a row of a change still in the log was in the way. Draining settles it.
            CONTINUE WHEN stored = touched.rows;
        END IF;
        INSERT INTO {log} (month, {primary_key})
        SELECT DISTINCT touched.month, {primary_key} FROM ({touched_rows}) AS rows
        WHERE date_trunc('month', {key})::date IS NOT DISTINCT FROM touched.month;
    END LOOP;
    RETURN NULL;
END
$body$;
