-- Numbers for the cards and actors that have none yet.
INSERT INTO workers.complexity_numbers (id)
SELECT id
FROM ({ids}) AS present
WHERE NOT EXISTS (SELECT FROM workers.complexity_numbers AS known WHERE known.id = present.id)
ON CONFLICT DO NOTHING
