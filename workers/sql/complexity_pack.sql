-- Per card and actor the sums over several months, in order of cards and some thousand to a row,
-- packed as numpy reads them: the numbers of card and actor and the day the weights are of as
-- int4, weight and signal as float8. That day is {reference}, the end of a month.
SELECT
    part,
    string_agg(
        int4send(card) || int4send(actor) || int4send(day)
        || float8send(weight) || float8send(signal),
        '' ORDER BY card
    ) AS pairs
FROM (
    SELECT
        (row_number() OVER (ORDER BY card) - 1) / {pairs_per_part} AS part,
        card,
        actor,
        day,
        weight,
        signal
    FROM (
        SELECT
            card,
            actor,
            max(reference) AS day,
            sum(weight * factor) AS weight,
            sum(signal * factor) AS signal
        FROM (
            SELECT
                card,
                actor,
                reference,
                weight,
                signal,
                -- Postgres takes a vanishing product for an error. What is left out here counts
                -- less than the 17th digit: the newest month's weights are above exp(-310).
                CASE
                    WHEN {decay_per_day} * (day - reference) < -350 THEN 0
                    ELSE exp({decay_per_day} * (day - reference))
                END AS factor
            FROM (
                SELECT
                    card.number AS card,
                    actor.number AS actor,
                    month.day,
                    sums.weight,
                    sums.signal,
                    {reference} AS reference
                FROM workers.complexity_sums AS sums
                INNER JOIN (
                    SELECT month, (month + interval '1 month')::date - date '2000-01-01' AS day
                    FROM workers.complexity_months
                    WHERE month = ANY ({months})
                ) AS month ON sums.month = month.month
                INNER JOIN workers.complexity_numbers AS card ON sums.flashcard_id = card.id
                INNER JOIN workers.complexity_numbers AS actor ON sums.actor_id = actor.id
                WHERE sums.month = ANY ({months})
            ) AS numbered
        ) AS factored
        GROUP BY card, actor
    ) AS merged
) AS placed
GROUP BY part
