\set actor random(1, :actors)
\set card random(1, :flashcards)
\set rating random(1, 4)
\set elapsed random(0, 8000000)
INSERT INTO review_logs ("flashcardId", "actorId", rating, state, elapsed_time, reviewed_at, "previousState")
VALUES (lpad(to_hex(:card::bigint), 32, '0')::uuid, lpad(to_hex(:actor::bigint), 32, '0')::uuid, :rating::smallint, jsonb_build_object('stability', :elapsed::bigint / 7.0, 'difficulty', :rating::bigint), :elapsed::integer, localtimestamp - :elapsed::bigint * interval '10 milliseconds', jsonb_build_object('difficulty', 1, 'stability', 0, 'retrievability', 1));
