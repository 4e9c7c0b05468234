ALTER TABLE {live} ADD CONSTRAINT {constraint} {definition};
