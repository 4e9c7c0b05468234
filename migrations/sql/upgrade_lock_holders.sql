-- The session that runs an upgrade: it holds this advisory lock (a bigint, in two halves).
SELECT
    activity.pid,
    activity.application_name,
    activity.state,
    activity.query_start,
    'the upgrade lock' AS held
FROM pg_catalog.pg_locks AS lock
JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = lock.pid
WHERE lock.locktype = 'advisory'
    AND lock.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND lock.granted
    AND lock.objsubid = 1
    AND lock.classid::bigint << 32 | lock.objid::bigint = %(key)s
    AND lock.pid <> pg_backend_pid()
