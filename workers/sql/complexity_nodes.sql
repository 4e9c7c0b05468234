-- All nodes, numbered from 0.
CREATE TEMPORARY TABLE complexity_nodes AS
SELECT
    row_number() OVER (ORDER BY id)::integer - 1 AS index,
    id,
    properties ->> 'flashcardId' AS flashcard
FROM nodes
