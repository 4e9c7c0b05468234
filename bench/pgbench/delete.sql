\set place random(0, 4294967295)
DELETE FROM review_logs
WHERE id = (SELECT id FROM review_logs WHERE id >= rpad(lpad(to_hex(:place::bigint), 8, '0'), 32, '0')::uuid ORDER BY id LIMIT 1);
