INSERT INTO {retired} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM new_rows
