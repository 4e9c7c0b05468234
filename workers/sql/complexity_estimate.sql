-- About the number of reviews in each month of one table, by a sample of its pages.
SELECT
    date_trunc('month', reviewed_at)::date AS month,
    (count(*) * 100 / {percent})::bigint AS reviews
FROM ONLY {source} TABLESAMPLE SYSTEM ({percent})
WHERE rating BETWEEN 1 AND 4 AND reviewed_at >= '0001-01-01' AND reviewed_at < '9999-01-01'
GROUP BY 1
