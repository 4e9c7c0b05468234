-- One row of a month that is live, as all are: for its partition a plan is kept.
    IF current_setting('partitioning.statement', true) IS DISTINCT FROM moment THEN
        FOR one IN
            SELECT {columns}, CASE WHEN {known} THEN {locked}
                ELSE false END AS "partitioning.known"
            FROM {rows} LIMIT 2
        LOOP
            given := given + 1;
        END LOOP;
        IF given = 1 AND one."partitioning.known" THEN
            {by_month}
            IF FOUND THEN
                moment := set_config('partitioning.statement', moment, true);
                RETURN NULL;
            END IF;
        END IF;
    END IF;
