DELETE FROM {retired} WHERE ({primary_key}) IN (SELECT {primary_key} FROM ({touched_rows}) AS rows);
    INSERT INTO {retired} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {columns} FROM {live}
    WHERE ({primary_key}) IN (SELECT {primary_key} FROM ({touched_rows}) AS rows);
