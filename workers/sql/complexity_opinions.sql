-- Step 2: every actor's opinion on every node, with the actor's reputation; in order of nodes.
SELECT
    card.index,
    merged.signal / merged.weight AS difficulty,
    reputation.reputation
FROM ({merged}) AS merged
INNER JOIN complexity_cards AS card ON merged.flashcard_id = card.flashcard_id
INNER JOIN complexity_reputations AS reputation ON merged.actor_id = reputation.actor_id
ORDER BY card.index, difficulty
