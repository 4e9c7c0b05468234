INSERT INTO {log} (month, {primary_key})
SELECT date_trunc('month', {key})::date, {primary_key} FROM {default};
TRUNCATE {default};
