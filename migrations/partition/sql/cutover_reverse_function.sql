-- Keeps the old table in step with the new one, so that rollback loses nothing.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings}
AS $body$
#variable_conflict use_column
DECLARE
    moment text := extract(epoch FROM statement_timestamp())::text;
    rows bigint;
BEGIN
    SELECT count(*) INTO rows FROM {transition_table};
    IF rows = 0 THEN
        RETURN NULL;
    END IF;
    -- The transition tables hold what the rows are now, unless a trigger or function that the
    -- statement called changed them again: that was mirrored first, and left the statement's moment.
    IF current_setting('partitioning.statement', true) IS DISTINCT FROM moment THEN
        moment := set_config('partitioning.statement', moment, true);
        IF {is_in_place} THEN
            {in_place};
            RETURN NULL;
        END IF;
    END IF;
    -- By way of the new table's present state.
    {apply}
    RETURN NULL;
END
$body$;
