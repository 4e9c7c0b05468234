-- The months to be summed up again, with the reviews they had: those noted, and those summed up by
-- another definition or from a table that is not as it was.
SELECT
    month,
    coalesce(summed.reviews, 0) AS reviews
FROM (SELECT DISTINCT month FROM workers.review_changes) AS noted
FULL JOIN workers.complexity_months AS summed USING (month)
WHERE noted.month IS NOT NULL
    OR summed.definition <> %(definition)s
    OR NOT summed.sources <@ %(states)s::text []
ORDER BY month
