-- What the programs need of the application's tables and their own, for a role that owns none of
-- them. To be run by the owner, after review_changes.sql. Nothing is taken away.
GRANT USAGE ON SCHEMA workers TO {role};
GRANT SELECT, INSERT, UPDATE ON workers.fsrs_runs TO {role};
GRANT SELECT, INSERT ON workers.complexity_runs, workers.complexity_numbers TO {role};
GRANT SELECT, INSERT, DELETE ON
workers.review_changes,
workers.complexity_months,
workers.complexity_sources,
workers.complexity_sums,
workers.complexity_actors
TO {role};
GRANT SELECT, INSERT, TRUNCATE ON
workers.complexity_history,
workers.complexity_history_months
TO {role};
GRANT USAGE ON SEQUENCE workers.complexity_versions TO {role};

GRANT SELECT (id, fsrs_log_loss), UPDATE (fsrs_parameters, fsrs_log_loss) ON actors TO {role};
GRANT SELECT (id, "activityPubId") ON flashcards TO {role};
GRANT SELECT (id, properties), UPDATE (properties) ON nodes TO {role};
GRANT SELECT ("sourceId", "targetId", properties) ON edges TO {role};

-- All of it: LOCK TABLE, which the calculation begins with, looks at no privileges on columns.
GRANT SELECT ON review_logs TO {role};

-- The calculation also reads each partition by itself. Later ones get this where they are made.
DO $partitions$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN
        SELECT relid FROM pg_partition_tree('review_logs') WHERE relid <> 'review_logs'::regclass
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO %I', leaf, {role_name});
    END LOOP;
END
$partitions$;

-- For the exporter, where a partitioning was begun. A later one gives it to the table's readers.
DO $progress$
BEGIN
    IF to_regclass('partitioning.progress') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA partitioning TO {role};
        GRANT SELECT ON partitioning.progress TO {role};
    END IF;
END
$progress$;
