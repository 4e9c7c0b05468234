-- The cards that nodes stand for, by the nodes' numbers.
CREATE TEMPORARY TABLE complexity_cards AS
SELECT flashcard.id AS flashcard_id, node.index
FROM complexity_nodes AS node
INNER JOIN flashcards AS flashcard ON node.flashcard = flashcard."activityPubId"
