-- CREATE TRIGGER waits for the writers already in the table, and every later statement fires it.
CREATE TRIGGER partitioning_insert AFTER INSERT ON {relation}
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {on_insert}();
CREATE TRIGGER partitioning_update AFTER UPDATE ON {relation}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {on_update}();
CREATE TRIGGER partitioning_delete AFTER DELETE ON {relation}
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {on_delete}();
CREATE TRIGGER partitioning_truncate BEFORE TRUNCATE ON {relation}
    FOR EACH STATEMENT EXECUTE FUNCTION {on_truncate}();
-- Also for sessions whose session_replication_role is replica.
ALTER TABLE {relation} ENABLE ALWAYS TRIGGER partitioning_insert;
ALTER TABLE {relation} ENABLE ALWAYS TRIGGER partitioning_update;
ALTER TABLE {relation} ENABLE ALWAYS TRIGGER partitioning_delete;
ALTER TABLE {relation} ENABLE ALWAYS TRIGGER partitioning_truncate;
