{is_in_place} AND {key} >= {lower} AND {key} < {upper}
            AND pg_advisory_xact_lock_shared({lock_class},
                (12 * date_part('year', {key}) + date_part('month', {key}))::integer) IS NOT NULL
