DO $check$
DECLARE
    problems text;
BEGIN
    IF current_schema() IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'no schema of the search_path exists, tables would have no place to go';
    END IF;
    SELECT string_agg(problem, '; ' ORDER BY first_position)
    INTO problems
    FROM (
        SELECT problem, min(position) AS first_position
        FROM (
            SELECT
                expected.position,
                CASE
                    WHEN namespace.nspname <> current_schema() THEN
                        expected.table_name || ' lies in schema ' || namespace.nspname
                        || ', but the first schema of the search_path is ' || current_schema()
                    WHEN relation.relkind NOT IN ('r', 'p') THEN
                        expected.table_name || ' is no table'
                    WHEN attribute.attnum IS NULL AND expected.required THEN
                        expected.table_name || '.' || expected.column_name
                        || ' is missing, expected ' || expected.types
                    WHEN format_type(attribute.atttypid, NULL)
                        <> ALL (string_to_array(expected.types, ' or ')) THEN
                        expected.table_name || '.' || expected.column_name || ' is '
                        || format_type(attribute.atttypid, NULL)
                        || ', expected ' || expected.types
                END AS problem
            FROM (
                VALUES
                {expected}
            ) AS expected (position, table_name, column_name, types, required)
            JOIN pg_catalog.pg_class AS relation
                ON relation.oid = to_regclass(quote_ident(expected.table_name))
            JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
            LEFT JOIN pg_catalog.pg_attribute AS attribute
                ON attribute.attrelid = relation.oid
                AND attribute.attname = expected.column_name
                AND attribute.attnum > 0
                AND NOT attribute.attisdropped
        ) AS found
        WHERE problem IS NOT NULL
        GROUP BY problem
    ) AS distinct_problems;
    IF problems IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = problems;
    END IF;
END
$check$;
