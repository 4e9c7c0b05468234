-- The old table's rows follow within the statement: its own checks wait for the commit.
ALTER TABLE {retired} ALTER CONSTRAINT {constraint} DEFERRABLE INITIALLY DEFERRED;
