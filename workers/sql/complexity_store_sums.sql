INSERT INTO workers.complexity_sums (month, actor_id, flashcard_id, weight, signal)
SELECT month, actor_id, flashcard_id, weight, signal FROM complexity_stage
