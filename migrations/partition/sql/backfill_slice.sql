INSERT INTO {partition} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM {live} WHERE {key} >= {lower} AND {key} < {upper};
