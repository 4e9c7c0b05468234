-- Sessions that hold a lock on one of the tables, or on one of their partitions.
WITH tables AS (
    SELECT to_regclass(quote_ident(name)) AS oid FROM unnest(%(tables)s::text[]) AS name
),
relations AS (
    SELECT oid, oid AS table_oid FROM tables WHERE oid IS NOT NULL
    UNION
    SELECT tree.relid, tables.oid FROM tables CROSS JOIN pg_partition_tree(tables.oid) AS tree
)
SELECT
    activity.pid,
    activity.application_name,
    activity.state,
    activity.query_start,
    string_agg(DISTINCT relations.table_oid::text, ', ') AS held
FROM pg_catalog.pg_locks AS lock
JOIN relations ON relations.oid = lock.relation
JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = lock.pid
WHERE lock.locktype = 'relation'
    AND lock.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND lock.granted
    AND lock.pid <> pg_backend_pid()
GROUP BY activity.pid, activity.application_name, activity.state, activity.query_start,
    activity.xact_start
ORDER BY activity.xact_start NULLS LAST, activity.pid
