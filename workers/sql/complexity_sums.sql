-- Steps 1 and 2 of the computation, month by month: the signal of every review, and per actor and
-- card the sums that its time-weighted mean is made of.
--
-- grade:      Again 1.0, Hard 0.6, Good 0.2, Easy 0.0
-- deficit:    1 if the review brought no stability, else the share of the stability after it that
--             was there before: min(1, before / after)
-- surprise:   (1 + retrievability - recalled) / 2: failing (recalled 0) at certain recall is 1,
--             passing (recalled 1) at no hope of it is 0, what was to be expected is 1/2
-- A first review has no stability before it, so nothing was predicted: the grade alone counts, as
-- it does where a snapshot is missing or makes no sense.
--
-- A review's weight is exp(-decay * age), and age is counted to the end of its own month: whatever
-- the year, weights are between exp(-31 decay) and 1, and stay true when the month is closed.
--
-- OFFSET 0 keeps the levels apart: merged into one, each number would be taken out of its JSON, and
-- each weight computed, anew wherever it is named, which takes twice as long in all.
SELECT
    month::date AS month,
    source::bigint AS source,
    actor_id,
    flashcard_id,
    count(*) AS reviews,
    sum(weight) AS weight,
    sum(weight * signal) AS signal,
    min(reviewed_at) AS first_reviewed_at,
    max(reviewed_at) AS last_reviewed_at
FROM (
    SELECT
        month,
        source,
        actor_id,
        flashcard_id,
        reviewed_at,
        exp({decay_per_day} / 86400.0 * date_part(
            'epoch', reviewed_at - (month + interval '1 month')
        )) AS weight,
        CASE
            WHEN before BETWEEN 1e-30 AND 1e30 AND after BETWEEN 1e-30 AND 1e30
                AND retrievability BETWEEN 0 AND 1
                THEN {weight_grade} * penalty
                    + {weight_stability} * least(1, before / after)
                    + {weight_retrievability}
                    * (1 + retrievability - (rating > 1)::integer) / 2
            ELSE penalty
        END AS signal
    FROM (
        SELECT
            date_trunc('month', reviewed_at) AS month,
            tableoid AS source,
            "actorId" AS actor_id,
            "flashcardId" AS flashcard_id,
            rating,
            reviewed_at,
            (ARRAY[1.0, 0.6, 0.2, 0.0]::double precision[])[rating] AS penalty,
            {before} AS before,
            {after} AS after,
            {retrievability} AS retrievability
        FROM review_logs
        WHERE rating BETWEEN 1 AND 4
            AND "actorId" IS NOT NULL
            AND "flashcardId" IS NOT NULL
            AND {months}
        OFFSET 0
    ) AS snapshots
    OFFSET 0
) AS signals
GROUP BY month, source, actor_id, flashcard_id
