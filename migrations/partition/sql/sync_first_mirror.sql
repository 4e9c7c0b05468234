-- All months in between are live, and no snapshot is left that knows otherwise.
    IF current_setting('partitioning.statement', true) IS DISTINCT FROM moment THEN
        {in_place};
        GET DIAGNOSTICS stored = ROW_COUNT;
        IF stored = (SELECT count(*) FROM new_rows) THEN
            IF stored > 0 THEN
                moment := set_config('partitioning.statement', moment, true);
            END IF;
            RETURN NULL;
        END IF;
    END IF;
