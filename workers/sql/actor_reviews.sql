-- The reviews of one actor, a row for each card: when, in microseconds since 1970, and the grades.
SELECT
    array_agg((date_part('epoch', reviewed_at) * 1000000)::bigint ORDER BY reviewed_at, id),
    array_agg(rating ORDER BY reviewed_at, id)
FROM review_logs
WHERE "actorId" = %(actor_id)s
  AND rating BETWEEN 1 AND 4
  AND "flashcardId" IS NOT NULL
  AND isfinite(reviewed_at)
GROUP BY "flashcardId"
ORDER BY "flashcardId"
