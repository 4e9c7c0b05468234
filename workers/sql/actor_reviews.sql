-- The reviews of one actor, card by card in order of time.
SELECT "flashcardId"::text AS card, reviewed_at, rating
FROM review_logs
WHERE "actorId" = %(actor_id)s
  AND rating BETWEEN 1 AND 4
ORDER BY "flashcardId", reviewed_at, id
