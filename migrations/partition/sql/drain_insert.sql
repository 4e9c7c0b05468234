INSERT INTO {partition} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM {live}
WHERE ({primary_key}) IN (SELECT {primary_key} FROM pg_temp.drained)
    AND {key} >= {lower} AND {key} < {upper}
ON CONFLICT DO NOTHING;
