INSERT INTO {partitioned} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM new_rows
            ON CONFLICT DO NOTHING
