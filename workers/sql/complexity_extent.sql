-- The first and the last month of one table, and its size; an index on reviewed_at answers this.
SELECT
    date_trunc('month', min(reviewed_at))::date AS first,
    date_trunc('month', max(reviewed_at))::date AS last,
    pg_relation_size({id}) AS bytes
FROM ONLY {source}
WHERE reviewed_at >= '0001-01-01' AND reviewed_at < '9999-01-01'
