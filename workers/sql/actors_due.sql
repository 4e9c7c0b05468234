-- Actors to optimize: enough reviews at all, and enough since the last run; those are counted that
-- actor_reviews.sql reads.
SELECT counted.actor_id
FROM (
    SELECT "actorId" AS actor_id, count(*) AS reviews
    FROM review_logs
    WHERE rating BETWEEN 1 AND 4
        AND "actorId" IS NOT NULL
        AND "flashcardId" IS NOT NULL
        AND isfinite(reviewed_at)
    GROUP BY "actorId"
) AS counted
LEFT JOIN workers.fsrs_runs AS run ON counted.actor_id = run.actor_id
WHERE counted.reviews >= %(min_reviews)s
  AND (run.actor_id IS NULL OR counted.reviews >= run.reviews + %(min_new_reviews)s)
ORDER BY counted.reviews - coalesce(run.reviews, 0) DESC, counted.actor_id
