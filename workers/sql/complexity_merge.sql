-- Per actor and card the sums over several months, of rows (month, actor_id, flashcard_id, weight,
-- signal), with weights at the end of {reference}.
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
        -- Postgres takes a vanishing product for an error. What is left out here counts less than
        -- the 17th digit: the newest month's weights are above exp(-310).
        CASE WHEN exponent < -350 THEN 0 ELSE exp(exponent) END AS factor
    FROM (
        SELECT
            reference,
            actor_id,
            flashcard_id,
            weight,
            signal,
            {decay_per_day} * (
                (month + interval '1 month')::date - (reference + interval '1 month')::date
            ) AS exponent
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
    ) AS aged
) AS factored
GROUP BY actor_id, flashcard_id
