-- Rows that were changed during the load may be there in an old version, or in several. Their keys
-- are in the log; draining brings them back as they are by then.
DELETE FROM {partition} WHERE ({primary_key}) IN (
    SELECT {primary_key} FROM {log} WHERE month = {month}
);
