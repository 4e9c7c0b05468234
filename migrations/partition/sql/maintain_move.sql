-- With the default partition locked: its rows of a month go to the month's own table, not attached yet.
WITH moved AS (
    DELETE FROM {default_partition} WHERE {key} >= {lower} AND {key} < {upper} RETURNING {columns}
)
INSERT INTO {partition} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM moved;
