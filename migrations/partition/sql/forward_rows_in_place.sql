EXECUTE format('INSERT INTO %I.%I', {schema}, whole.partition_name) || $insert$
                ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM new_rows{on_conflict}
                $insert$
