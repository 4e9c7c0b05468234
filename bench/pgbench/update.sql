-- Some row, found by the primary key's index alone.
\set place random(0, 4294967295)
\set rating random(1, 4)
UPDATE review_logs SET rating = :rating::smallint, state = jsonb_build_object('stability', :rating::bigint, 'difficulty', :rating::bigint)
WHERE id = (SELECT id FROM review_logs WHERE id >= rpad(lpad(to_hex(:place::bigint), 8, '0'), 32, '0')::uuid ORDER BY id LIMIT 1);
