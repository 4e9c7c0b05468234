-- Numbers for the cards and actors that have none yet.
INSERT INTO workers.complexity_numbers (id)
SELECT id
FROM (
    SELECT id FROM flashcards
    UNION
    SELECT id FROM actors
) AS present
WHERE NOT EXISTS (SELECT FROM workers.complexity_numbers AS known WHERE known.id = present.id)
