-- Sums per card and actor, in order of cards and some thousand to a row, packed as numpy reads
-- them: the numbers of card and actor and the day the weights are of as int4, weight and signal
-- as float8.
SELECT
    part,
    string_agg(
        int4send(card) || int4send(actor) || int4send(day)
        || float8send(weight) || float8send(signal),
        '' ORDER BY card
    ) AS pairs
FROM (
    SELECT
        (row_number() OVER (ORDER BY card.number) - 1) / {pairs_per_part} AS part,
        card.number AS card,
        actor.number AS actor,
        (sums.month + interval '1 month')::date - date '2000-01-01' AS day,
        sums.weight,
        sums.signal
    FROM ({sums}) AS sums
    INNER JOIN workers.complexity_numbers AS card ON sums.flashcard_id = card.id
    INNER JOIN workers.complexity_numbers AS actor ON sums.actor_id = actor.id
) AS numbered
GROUP BY part
