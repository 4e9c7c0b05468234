CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % is refused while it is being partitioned', TG_RELID::regclass
        USING HINT = 'DELETE its rows, or take the partitioning back first.';
END
$body$;
