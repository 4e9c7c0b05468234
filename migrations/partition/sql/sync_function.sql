-- Mirrors one {operation} statement. Months that are live get the rows at once; the keys of all
-- others go to the change log. A writer whose snapshot is older than a month's going live sees it as
-- not live, rightly: it does not see the copied rows. Rows go to the month's partition by its name:
-- a session may know less partitions of the new table than there are (descriptors.py).
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings}
AS $body$
#variable_conflict use_column
DECLARE
    whole record;
    touched record;
    one record;
    given bigint := 0;
    moment text := extract(epoch FROM statement_timestamp())::text;
    planner text[];
    partition_of_month text;
    stored bigint;
BEGIN
    {first}
    -- The month's lock is held to the end of the transaction: nobody drains the month in between.
    -- The generation tells apart what an old snapshot knows of an earlier sync, undone since.
    SELECT s.*, m.partition_name INTO whole
    FROM (
        SELECT count(*) AS rows, count(*) FILTER (WHERE is_new) AS written,
            min(date_trunc('month', {key}))::date AS month,
            count({key}) = count(*) AND isfinite(min({key}))
                AND date_trunc('month', min({key})) = date_trunc('month', max({key})) AS one_month,
            CASE WHEN isfinite(min({key})) THEN pg_advisory_xact_lock_shared({lock_class},
                (12 * extract(year FROM min({key})) + extract(month FROM min({key})))::integer)
            END AS locked
        FROM ({touched_rows}) AS rows
    ) AS s
    LEFT JOIN partitioning.months AS m ON m.table_id = {table_id} AND m.month = s.month
        AND m.state = 'live' AND m.generation = {generation};
    IF whole.rows = 0 THEN
        RETURN NULL;
    END IF;
    -- The transition tables hold what the rows are now, unless a trigger or function that the
    -- statement called changed them again: that was mirrored first, and left the statement's moment.
    IF current_setting('partitioning.statement', true) IS DISTINCT FROM moment THEN
        moment := set_config('partitioning.statement', moment, true);
        IF whole.one_month AND whole.partition_name IS NULL THEN
            INSERT INTO {log} (month, {primary_key})
            SELECT DISTINCT whole.month, {primary_key} FROM ({touched_rows}) AS rows;
            RETURN NULL;
        ELSIF whole.one_month AND {is_in_place} THEN
            {in_place};
            GET DIAGNOSTICS stored = ROW_COUNT;
            -- Fewer: a row of a change still in the log was in the way.
            IF TG_OP = 'DELETE' OR stored = whole.written THEN
                RETURN NULL;
            END IF;
        END IF;
    END IF;
    -- By way of the old table's present state, month by month, in their order. Never by a scan.
    planner := ARRAY[current_setting('enable_seqscan'), current_setting('enable_hashjoin'),
        current_setting('enable_mergejoin'), current_setting('jit')];
    PERFORM set_config(name, 'off', true)
    FROM unnest(ARRAY['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit']) AS name;
    FOR touched IN
        SELECT date_trunc('month', {key})::date AS month,
            count(*) FILTER (WHERE is_new) AS rows
        FROM ({touched_rows}) AS rows
        GROUP BY 1 ORDER BY 1
    LOOP
        partition_of_month := NULL;
        IF isfinite(touched.month) THEN
            PERFORM pg_advisory_xact_lock_shared({lock_class},
                (12 * extract(year FROM touched.month) + extract(month FROM touched.month))::integer);
            SELECT m.partition_name INTO partition_of_month FROM partitioning.months AS m
            WHERE m.table_id = {table_id} AND m.month = touched.month AND m.state = 'live'
                AND m.generation = {generation};
        END IF;
        IF partition_of_month IS NOT NULL THEN
            IF TG_OP <> 'INSERT' THEN
                EXECUTE format('DELETE FROM %I.%I', {schema}, partition_of_month) || $delete$
                    WHERE ({primary_key}) IN (
                        SELECT {primary_key} FROM ({touched_rows}) AS rows
                        WHERE {key} >= $1 AND {key} < $1 + interval '1 month')
                    $delete$ USING touched.month;
            END IF;
            EXECUTE format('INSERT INTO %I.%I', {schema}, partition_of_month) || $insert$
                ({columns}) OVERRIDING SYSTEM VALUE
                SELECT {columns} FROM {live}
                WHERE ({primary_key}) IN (SELECT {primary_key} FROM ({touched_rows}) AS rows)
                    AND {key} >= $1 AND {key} < $1 + interval '1 month'
                ON CONFLICT DO NOTHING
                $insert$ USING touched.month;
            GET DIAGNOSTICS stored = ROW_COUNT;
            -- Fewer: a row of a change still in the log was in the way. Draining settles it.
            CONTINUE WHEN stored = touched.rows;
        END IF;
        INSERT INTO {log} (month, {primary_key})
        SELECT DISTINCT touched.month, {primary_key} FROM ({touched_rows}) AS rows
        WHERE date_trunc('month', {key})::date IS NOT DISTINCT FROM touched.month;
    END LOOP;
    PERFORM set_config('enable_seqscan', planner[1], true),
        set_config('enable_hashjoin', planner[2], true),
        set_config('enable_mergejoin', planner[3], true), set_config('jit', planner[4], true);
    RETURN NULL;
END
$body$;
