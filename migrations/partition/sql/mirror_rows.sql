INSERT INTO {copy} ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM new_rows WHERE {condition}{on_conflict}
