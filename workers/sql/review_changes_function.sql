-- Notes the months of the rows that a statement wrote, each once a transaction: what was noted is
-- kept in a setting that lasts as long, and is taken back with a savepoint just as the note is.
-- Rows of no month (NULL, infinity, the year 9999) count nowhere.
DECLARE
    noted text := coalesce(current_setting('workers.noted_review_changes', true), '');
    transaction text := pg_current_xact_id()::text || ':';
    written timestamp [] := CASE TG_OP
        WHEN 'INSERT' THEN ARRAY[NEW.reviewed_at]
        WHEN 'DELETE' THEN ARRAY[OLD.reviewed_at]
        ELSE ARRAY[OLD.reviewed_at, NEW.reviewed_at]
    END;
    at timestamp;
    entry text;
BEGIN
    IF NOT starts_with(noted, transaction) THEN
        noted := transaction || ',';
    END IF;
    FOREACH at IN ARRAY written LOOP
        CONTINUE WHEN at IS NULL OR at < '0001-01-01' OR at >= '9999-01-01';
        entry := ',' || (date_trunc('month', at)::date - date '2000-01-01') || ',';
        CONTINUE WHEN strpos(noted, entry) > 0;
        INSERT INTO workers.review_changes (month) VALUES (date_trunc('month', at)::date);
        noted := noted || substr(entry, 2);
        PERFORM set_config('workers.noted_review_changes', noted, true);
    END LOOP;
    RETURN NULL;
END
