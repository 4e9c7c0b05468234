DELETE FROM {retired} WHERE ({primary_key}) IN (SELECT {primary_key} FROM old_rows)
