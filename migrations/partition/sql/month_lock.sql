pg_advisory_xact_lock_shared({lock_class},
                (12 * date_part('year', {key}) + date_part('month', {key}))::integer) IS NOT NULL
