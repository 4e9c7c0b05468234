-- All nodes in the order of their numbers, with the number of the card each stands for: 0 where it
-- is no card. (A card without a number has no reviews.)
SELECT
    node.id,
    coalesce(card.number, 0) AS card
FROM nodes AS node
LEFT JOIN flashcards AS flashcard ON node.properties ->> 'flashcardId' = flashcard."activityPubId"
LEFT JOIN workers.complexity_numbers AS card ON flashcard.id = card.id
ORDER BY node.id
