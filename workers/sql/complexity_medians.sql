-- Step 3: per node the weighted median over its actors' opinions, weight being the reputation.
--
-- Each opinion stands at the middle of its weight on the line of all weight, in order of
-- difficulty; the median is the difficulty at half of all weight, interpolated between the
-- opinions below and above.
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
            node.index,
            opinion.difficulty,
            sum(reputation.reputation) OVER lower - reputation.reputation / 2 AS middle,
            sum(reputation.reputation) OVER (PARTITION BY node.index) / 2 AS half
        FROM complexity_opinions AS opinion
        INNER JOIN complexity_reputations AS reputation
            ON opinion.actor_id = reputation.actor_id
        INNER JOIN flashcards AS flashcard ON opinion.flashcard_id = flashcard.id
        INNER JOIN complexity_nodes AS node ON flashcard."activityPubId" = node.flashcard
        WINDOW lower AS (
            PARTITION BY node.index
            ORDER BY opinion.difficulty, opinion.actor_id
            ROWS UNBOUNDED PRECEDING
        )
    ) AS placed
    GROUP BY index
) AS halves
