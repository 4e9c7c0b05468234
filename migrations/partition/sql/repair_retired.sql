-- After cutover the new table is the one in use: the old one follows it. Writers wait meanwhile.
LOCK TABLE {live} IN SHARE ROW EXCLUSIVE MODE;
DELETE FROM {retired} WHERE ({primary_key}) IN (SELECT {primary_key} FROM pg_temp.drained);
INSERT INTO {retired} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM {live} WHERE ({primary_key}) IN (SELECT {primary_key} FROM pg_temp.drained);
