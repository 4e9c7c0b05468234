-- The bounds of a partition by reviewed_at, as Postgres writes them, with the rows it is thought to
-- have (-1 if nobody looked); no row if the table is none.
SELECT
    pg_get_expr(source.relpartbound, source.oid) AS bounds,
    source.reltuples::bigint AS reviews
FROM pg_class AS source
INNER JOIN pg_inherits AS place ON source.oid = place.inhrelid
WHERE source.oid = {id} AND pg_get_partkeydef(place.inhparent) = 'RANGE (reviewed_at)'
