-- The months of one table, with their numbers of reviews.
SELECT
    date_trunc('month', reviewed_at)::date AS month,
    count(*) AS reviews
FROM ONLY {source}
WHERE rating BETWEEN 1 AND 4 AND isfinite(reviewed_at)
GROUP BY 1
