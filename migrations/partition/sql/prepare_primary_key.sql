ALTER TABLE {relation} ADD CONSTRAINT {constraint} PRIMARY KEY ({primary_key}, {key}){include};
