DELETE FROM {partition} WHERE ({primary_key}) IN (SELECT {primary_key} FROM pg_temp.drained);
