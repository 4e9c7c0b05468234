-- The tables that hold the reviews themselves, each with a text that stays the same as long as
-- every change of its rows was noted: it names the table and its file (TRUNCATE and whatever
-- rewrites the table give it another), the trigger and its function (their xmin changes with
-- them, so that a trigger switched off and on again is another one), and the table of the notes.
-- NULL where changes are not noted.
WITH RECURSIVE family AS (
    SELECT 'review_logs'::regclass::oid AS id
    UNION ALL
    SELECT child.inhrelid
    FROM pg_inherits AS child
    INNER JOIN family ON child.inhparent = family.id
)

SELECT
    source.oid::bigint AS id,
    source.oid::regclass::text AS name,
    CASE WHEN coalesce(
        source.relkind = 'r' AND tracker.tgenabled = 'A'
        -- AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, without a condition or columns.
        AND tracker.tgtype = 29 AND tracker.tgqual IS NULL AND tracker.tgnargs = 0
        AND tracker.tgattr::text = '' AND function.prosrc = %(body)s AND function.prosecdef
        AND has_table_privilege(notes.oid, 'SELECT') AND has_table_privilege(notes.oid, 'DELETE'),
        FALSE
    )
        THEN concat_ws(
            ' ', source.oid, pg_relation_filenode(source.oid), tracker.oid, tracker.xmin,
            function.oid, function.xmin, notes.oid, pg_relation_filenode(notes.oid)
        )
    END AS state,
    -- The trigger is missing or not as it was made; one that is switched off was so on purpose.
    tracker.tgenabled IS DISTINCT FROM 'D' AND (
        tracker.oid IS NULL
        OR tracker.tgenabled <> 'A'
        OR function.prosrc IS DISTINCT FROM %(body)s
    ) AS installable
FROM family
INNER JOIN pg_class AS source ON family.id = source.oid AND source.relkind <> 'p'
LEFT JOIN pg_trigger AS tracker
    ON source.oid = tracker.tgrelid AND tracker.tgname = 'note_review_change'
LEFT JOIN pg_proc AS function ON tracker.tgfoid = function.oid
LEFT JOIN pg_class AS notes ON notes.oid = to_regclass('workers.review_changes')
ORDER BY source.oid
