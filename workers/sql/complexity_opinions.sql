-- Steps 1 and 2 of the computation: the signal of every review, and per actor and card its
-- time-weighted mean, with what the actor's reputation needs.
--
-- grade:      Again 1.0, Hard 0.6, Good 0.2, Easy 0.0
-- deficit:    1 if the review brought no stability, else the share of the stability after it that
--             was there before: min(1, before / after)
-- surprise:   (1 + retrievability - recalled) / 2: failing (recalled 0) at certain recall is 1,
--             passing (recalled 1) at no hope of it is 0, what was to be expected is 1/2
-- A first review has no stability before it, so nothing was predicted: the grade alone counts, as
-- it does where a snapshot is missing or makes no sense.
CREATE TEMPORARY TABLE complexity_opinions AS
WITH snapshots AS (
    SELECT
        "actorId",
        "flashcardId",
        rating,
        reviewed_at,
        CASE WHEN jsonb_typeof("previousState" -> 'stability') = 'number'
            THEN ("previousState" -> 'stability')::double precision END AS before,
        CASE WHEN jsonb_typeof(state -> 'stability') = 'number'
            THEN (state -> 'stability')::double precision END AS after,
        CASE WHEN jsonb_typeof("previousState" -> 'retrievability') = 'number'
            THEN ("previousState" -> 'retrievability')::double precision END AS retrievability
    FROM review_logs
    WHERE rating BETWEEN 1 AND 4
),

signals AS (
    SELECT
        "actorId",
        "flashcardId",
        reviewed_at,
        CASE
            WHEN before > 0 AND after > 0 AND retrievability BETWEEN 0 AND 1
                THEN %(weight_grade)s * (ARRAY[1.0, 0.6, 0.2, 0.0]::double precision[])[rating]
                    + %(weight_stability)s * least(1, before / after)
                    + %(weight_retrievability)s
                    * (1 + retrievability - (rating > 1)::integer) / 2
            ELSE (ARRAY[1.0, 0.6, 0.2, 0.0]::double precision[])[rating]
        END AS signal,
        -- Only ratios of weights matter, so any moment will do to count the age to; the
        -- bounds keep rows with absurd times from overflowing.
        exp(greatest(-600, least(600,
            -%(decay_per_day)s * date_part('epoch', localtimestamp - reviewed_at) / 86400
        ))) AS weight
    FROM snapshots
)

SELECT
    "actorId" AS actor_id,
    "flashcardId" AS flashcard_id,
    sum(weight * signal) / sum(weight) AS difficulty,
    count(*) AS reviews,
    min(reviewed_at) AS first_reviewed_at,
    max(reviewed_at) AS last_reviewed_at
FROM signals
GROUP BY "actorId", "flashcardId"
