-- Per actor and card the sums over several months, of rows (month, actor_id, flashcard_id, weight,
-- signal), with weights at the end of {reference}.
--
-- Weights factorise: exp(-decay (end - t)) = exp(-decay (end - end of month))
-- * exp(-decay (end of month - t)). The days of a month to the reference are those from its first
-- to the reference's first plus the difference of the months' lengths, so count to the ends.
SELECT
    max(reference) AS month,
    actor_id,
    flashcard_id,
    sum(weight * factor) AS weight,
    sum(signal * factor) AS signal
FROM (
    SELECT
        reference,
        actor_id,
        flashcard_id,
        weight,
        signal,
        exp({decay_per_day} * (
            (month + interval '1 month')::date - (reference + interval '1 month')::date
        )) AS factor
    FROM (
        SELECT
            month,
            actor_id,
            flashcard_id,
            weight,
            signal,
            {reference} AS reference
        FROM ({sums}) AS sums
    ) AS dated
) AS factored
GROUP BY actor_id, flashcard_id
