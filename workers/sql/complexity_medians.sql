-- Step 3: per node the weighted median over its actors' opinions, weight being the reputation.
--
-- Each opinion stands at the middle of its weight on the line of all weight, in order of
-- difficulty; the median is the difficulty at half of all weight, interpolated between the
-- opinions below and above. Actors of the same opinion count as one with the weight of all;
-- opinions are the same if 12 decimals are, or else their order would hang on the last bit.
SELECT
    index,
    CASE
        WHEN below IS NULL THEN above
        WHEN above IS NULL THEN below
        ELSE below + (above - below) * (half - middle_below) / (middle_above - middle_below)
    END AS median
FROM (
    SELECT
        index,
        min(half) AS half,
        max(difficulty) FILTER (WHERE middle <= half) AS below,
        max(middle) FILTER (WHERE middle <= half) AS middle_below,
        min(difficulty) FILTER (WHERE middle > half) AS above,
        min(middle) FILTER (WHERE middle > half) AS middle_above
    FROM (
        SELECT
            index,
            difficulty,
            sum(weight) OVER lower - weight / 2 AS middle,
            sum(weight) OVER (PARTITION BY index) / 2 AS half
        FROM (
            SELECT
                node.index,
                round(opinion.difficulty::numeric, 12)::double precision AS difficulty,
                sum(reputation.reputation) AS weight
            FROM complexity_opinions AS opinion
            INNER JOIN complexity_reputations AS reputation
                ON opinion.actor_id = reputation.actor_id
            INNER JOIN flashcards AS flashcard ON opinion.flashcard_id = flashcard.id
            INNER JOIN complexity_nodes AS node ON flashcard."activityPubId" = node.flashcard
            GROUP BY node.index, round(opinion.difficulty::numeric, 12)::double precision
        ) AS weighed
        WINDOW lower AS (
            PARTITION BY index ORDER BY difficulty ROWS UNBOUNDED PRECEDING
        )
    ) AS placed
    GROUP BY index
) AS halves
