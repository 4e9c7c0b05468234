INSERT INTO {retired} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM new_rows
            ON CONFLICT ({primary_key}) DO UPDATE SET {assignments}
