EXECUTE format($delete$
                DELETE FROM {schema}.%I WHERE ({primary_key}) IN (SELECT {primary_key} FROM old_rows)
                $delete$, whole.partition_name)
