-- Logs the keys that differ in a month; draining brings them to the state of the table in use.
INSERT INTO {log} (month, {primary_key})
SELECT {month}, {primary_key}
FROM (
    SELECT {primary_key}, hash_record_extended(ROW({hashed_columns}), 0) AS digest
    FROM {original} WHERE {key} >= {lower} AND {key} < {upper}
) AS o
FULL JOIN (
    SELECT {primary_key}, hash_record_extended(ROW({hashed_columns}), 0) AS digest
    FROM {copy} WHERE {key} >= {lower} AND {key} < {upper}
) AS n USING ({primary_key})
WHERE o.digest IS DISTINCT FROM n.digest;
