EXECUTE format('DELETE FROM %I.%I', {schema}, whole.partition_name) || $delete$
                WHERE ({primary_key}) IN (SELECT {primary_key} FROM old_rows)
                $delete$
