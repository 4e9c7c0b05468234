-- All months in between are live, and no snapshot is left that knows otherwise.
    IF current_setting('partitioning.statement', true) IS DISTINCT FROM moment THEN
        INSERT INTO {partitioned} ({columns}) OVERRIDING SYSTEM VALUE
        SELECT {columns} FROM new_rows
        WHERE {key} >= {lower} AND {key} < {upper} AND pg_advisory_xact_lock_shared({lock_class},
            (12 * date_part('year', {key}) + date_part('month', {key}))::integer) IS NOT NULL
            AND {is_in_place}
        ON CONFLICT ({whole_key}) DO UPDATE SET {assignments};
        GET DIAGNOSTICS stored = ROW_COUNT;
        IF stored = (SELECT count(*) FROM new_rows) THEN
            IF stored > 0 THEN
                moment := set_config('partitioning.statement', moment, true);
            END IF;
            RETURN NULL;
        END IF;
    END IF;
