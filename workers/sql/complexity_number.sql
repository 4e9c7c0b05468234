-- Numbers for the cards and actors that have none yet. Who holds the lock need not look for others'
-- doing the same, which would take as long again; but a snapshot from before the lock may lack some.
INSERT INTO workers.complexity_numbers (id)
SELECT id
FROM ({ids}) AS present
WHERE NOT EXISTS (SELECT FROM workers.complexity_numbers AS known WHERE known.id = present.id)
{on_conflict}
