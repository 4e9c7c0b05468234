-- Lets the complexity calculation know the months whose reviews change. For a role that owns
-- review_logs; the workers run it themselves where theirs does.
--
-- For each row, not each statement: so it also fires for rows written to a partition by its own
-- name, and by logical replication.
CREATE OR REPLACE FUNCTION workers.note_review_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS {body};
CREATE OR REPLACE TRIGGER note_review_change
AFTER INSERT OR UPDATE OR DELETE ON review_logs
FOR EACH ROW EXECUTE FUNCTION workers.note_review_change();
ALTER TABLE review_logs ENABLE ALWAYS TRIGGER note_review_change;
