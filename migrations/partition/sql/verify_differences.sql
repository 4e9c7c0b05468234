-- Keys that differ in a month, without those whose change still waits in the log.
SELECT concat_ws(', ', {either_key}) AS key,
    CASE WHEN o.digest IS NULL THEN 'only in the copy' WHEN n.digest IS NULL THEN 'missing in the copy'
        ELSE 'different' END AS what
FROM (
    SELECT {primary_key}, hash_record_extended(ROW({hashed_columns}), 0) AS digest
    FROM {original} WHERE {key} >= {lower} AND {key} < {upper}
) AS o
FULL JOIN (
    SELECT {primary_key}, hash_record_extended(ROW({hashed_columns}), 0) AS digest
    FROM {copy} WHERE {key} >= {lower} AND {key} < {upper}
) AS n USING ({primary_key})
WHERE o.digest IS DISTINCT FROM n.digest
    AND ({primary_key}) NOT IN (SELECT {primary_key} FROM {log})
LIMIT {limit};
