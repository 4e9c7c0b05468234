-- Changes nothing; every session that has the table open drops what it remembers of it.
ALTER TABLE ONLY {relation} ALTER COLUMN {key} SET STATISTICS {target};
