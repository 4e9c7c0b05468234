-- Puts the sums of some months away, rows as complexity_sums.sql makes them; returns how many pairs
-- of card and actor had no number, which must be none.
--
-- The sums themselves are packed as numpy reads them, the cards of a part together: the number of
-- the card in the upper half of an int8, that of the actor in the lower; weight and signal as float8.
WITH sums AS MATERIALIZED (
    SELECT
        sums.month,
        sums.source,
        sums.actor_id,
        sums.reviews,
        sums.weight,
        sums.signal,
        sums.first_reviewed_at,
        sums.last_reviewed_at,
        card.number AS card,
        actor.number AS actor
    FROM ({sums}) AS sums
    LEFT JOIN workers.complexity_numbers AS card ON sums.flashcard_id = card.id
    LEFT JOIN workers.complexity_numbers AS actor ON sums.actor_id = actor.id
),

packed AS (
    INSERT INTO workers.complexity_sums (part, month, pairs)
    SELECT
        card / {cards_per_part},
        month,
        string_agg(
            int8send(card::bigint << 32 | actor) || float8send(weight) || float8send(signal), ''
        )
    FROM sums
    WHERE card IS NOT NULL AND actor IS NOT NULL
    GROUP BY card / {cards_per_part}, month
),

actors AS (
    INSERT INTO workers.complexity_actors
    SELECT month, actor_id, sum(reviews), min(first_reviewed_at), max(last_reviewed_at)
    FROM sums
    GROUP BY month, actor_id
),

months AS (
    INSERT INTO workers.complexity_months (month, version, definition, sources, reviews, pairs)
    SELECT
        stage.month,
        nextval('workers.complexity_versions'),
        {definition},
        -- A table whose changes are not noted has no state: no table is ever like it.
        array_agg(DISTINCT coalesce(source.state, 'not tracked')),
        sum(stage.reviews),
        sum(stage.pairs)
    FROM (
        SELECT month, source, sum(reviews) AS reviews, count(*) AS pairs
        FROM sums
        GROUP BY month, source
    ) AS stage
    LEFT JOIN unnest({ids}::bigint [], {states}::text []) AS source (id, state)
        ON stage.source = source.id
    GROUP BY stage.month
)

SELECT count(*) FROM sums WHERE card IS NULL OR actor IS NULL
