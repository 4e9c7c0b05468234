INSERT INTO {retired} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {columns} FROM {live}
    WHERE ({primary_key}, {key}) IN (SELECT {primary_key}, {key} FROM new_rows)
        -- There already: a trigger of the application changed the row, and was mirrored itself.
        -- (Another row of the same primary key is not skipped: it fails, as it did before cutover.)
        AND ({primary_key}, {key}) NOT IN (
            SELECT {primary_key}, {key} FROM {retired}
            WHERE ({primary_key}) IN (SELECT {primary_key} FROM new_rows)
                AND {key} IS NOT NULL);
