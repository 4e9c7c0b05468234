-- Rows that met the state of others from before: those come later in the log, and these after them.
INSERT INTO {log} (month, {primary_key})
SELECT {month}, {primary_key} FROM {live}
WHERE ({primary_key}) IN (SELECT {primary_key} FROM pg_temp.drained)
    AND {key} >= {lower} AND {key} < {upper}
    AND ({primary_key}) NOT IN (
        SELECT {primary_key} FROM {partition}
        WHERE ({primary_key}) IN (SELECT {primary_key} FROM pg_temp.drained)
    );
