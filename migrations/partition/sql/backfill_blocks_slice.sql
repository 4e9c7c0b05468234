INSERT INTO {loading} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM {live} WHERE ctid >= {first} AND ctid < {end} AND ({in_months});
