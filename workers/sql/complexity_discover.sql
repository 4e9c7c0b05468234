-- The months of one table, with their numbers of reviews.
SELECT
    date_trunc('month', reviewed_at)::date AS month,
    count(*) AS reviews
FROM ONLY {source}
WHERE rating BETWEEN 1 AND 4 AND reviewed_at >= '0001-01-01' AND reviewed_at < '9999-01-01'
GROUP BY 1
