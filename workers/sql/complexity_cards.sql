-- The cards that nodes stand for, both by their numbers. (A card without a number has no reviews.)
SELECT
    node.index,
    card.number AS card
FROM complexity_nodes AS node
INNER JOIN flashcards AS flashcard ON node.flashcard = flashcard."activityPubId"
INNER JOIN workers.complexity_numbers AS card ON flashcard.id = card.id
