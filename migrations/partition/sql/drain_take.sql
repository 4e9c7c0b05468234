-- Takes the oldest changes of a month; the rows they mean are read afterwards, so never older.
WITH taken AS (
    DELETE FROM {log} WHERE month = {month} AND seq <= (
        SELECT max(seq) FROM (
            SELECT seq FROM {log} WHERE month = {month} ORDER BY seq LIMIT {limit}
        ) AS oldest
    ) RETURNING {primary_key}
)
INSERT INTO pg_temp.drained ({primary_key}) SELECT DISTINCT {primary_key} FROM taken;
