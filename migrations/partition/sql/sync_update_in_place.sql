INSERT INTO {partitioned} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM new_rows
            ON CONFLICT ({whole_key}) DO UPDATE SET {assignments}
