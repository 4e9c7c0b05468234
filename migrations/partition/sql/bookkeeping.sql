CREATE SCHEMA IF NOT EXISTS partitioning;

-- One row a table; phase is the last one done.
CREATE TABLE IF NOT EXISTS partitioning.tables (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL UNIQUE,
    phase text NOT NULL,
    spec jsonb NOT NULL,
    log_name text NOT NULL,
    -- Counts how often sync was begun.
    generation integer NOT NULL DEFAULT 0,
    default_name text,
    rows_estimated bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    prepared_at timestamptz,
    synced_at timestamptz,
    backfilled_at timestamptz,
    verified_at timestamptz,
    verified_rows bigint,
    verified_digest text,
    cut_over_at timestamptz,
    -- The foreign keys as they were before cutover: an array of objects.
    foreign_keys jsonb,
    foreign_keys_validated boolean NOT NULL DEFAULT false,
    retired_at timestamptz,
    -- When the engine last committed rows into the new table: older snapshots do not see them.
    copied_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- One row a month. position: up to which key value it is loaded, if it is loaded by itself. generation: the sync that
-- has kept it in step since it went live.
CREATE TABLE IF NOT EXISTS partitioning.months (
    table_id integer NOT NULL REFERENCES partitioning.tables ON DELETE CASCADE,
    month date NOT NULL,
    partition_name text NOT NULL,
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'loading', 'indexing', 'catching_up', 'live')),
    generation integer,
    position timestamp,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_id, month)
);

-- Whether somebody paused the backfill, and what a run is holding back for.
ALTER TABLE partitioning.tables
    ADD COLUMN IF NOT EXISTS paused_at timestamptz,
    ADD COLUMN IF NOT EXISTS paused_by text,
    ADD COLUMN IF NOT EXISTS waiting_for text,
    ADD COLUMN IF NOT EXISTS waiting_since timestamptz;

-- One row a partition that was older than the retention; done_at is null as long as it is not yet
-- what it should become (fate): archived_as tells under which name, null if dropped.
CREATE TABLE IF NOT EXISTS partitioning.expired (
    table_id integer NOT NULL REFERENCES partitioning.tables ON DELETE CASCADE,
    month date NOT NULL,
    partition_name text NOT NULL,
    fate text NOT NULL CHECK (fate IN ('archive', 'drop')),
    begun_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    archived_as text,
    PRIMARY KEY (table_id, month, begun_at)
);

-- The pass over the old table that loads several months at once: ranges of its blocks, each loaded up
-- to next_block. filenode tells whether the table was rewritten since, as by VACUUM FULL.
CREATE TABLE IF NOT EXISTS partitioning.ranges (
    table_id integer NOT NULL REFERENCES partitioning.tables ON DELETE CASCADE,
    first_block bigint NOT NULL,
    next_block bigint NOT NULL,
    end_block bigint NOT NULL,
    filenode oid NOT NULL,
    rows bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_id, first_block)
);

-- How many rows a relation of ours has, counting no further than 100,000; null where there is none.
-- As its owner, so that who may see the view below needs no privileges on what it counts.
CREATE OR REPLACE FUNCTION partitioning.count_up_to_100000(relation_schema text, relation_name text)
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted bigint;
BEGIN
    IF to_regclass(format('%I.%I', relation_schema, relation_name)) IS NULL OR NOT EXISTS (
        SELECT FROM partitioning.tables AS t
        WHERE (relation_schema, relation_name) IN (
            ('partitioning', t.log_name), (split_part(t.table_name, '.', 1), t.default_name)
        )
    ) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %I.%I LIMIT 100000) AS few',
        relation_schema, relation_name) INTO counted;
    RETURN counted;
END
$$;

CREATE OR REPLACE VIEW partitioning.progress AS
SELECT
    t.table_name,
    t.phase,
    count(m.month) AS months,
    count(m.month) FILTER (WHERE m.state = 'live') AS months_live,
    t.rows_estimated,
    (coalesce(sum(m.rows), 0) + (
        SELECT coalesce(sum(r.rows), 0) FROM partitioning.ranges AS r WHERE r.table_id = t.id
    ))::bigint AS rows_copied,
    coalesce(partitioning.count_up_to_100000('partitioning', t.log_name), 0) AS changes_pending,
    count(m.month) FILTER (
        WHERE m.month > date_trunc('month', now() AT TIME ZONE 'UTC')
    ) AS months_ahead,
    CASE WHEN t.default_name IS NOT NULL
        THEN partitioning.count_up_to_100000(split_part(t.table_name, '.', 1), t.default_name)
    END AS default_rows,
    greatest(t.updated_at, max(m.updated_at), (
        SELECT max(r.updated_at) FROM partitioning.ranges AS r WHERE r.table_id = t.id
    )) AS updated_at
FROM partitioning.tables AS t
LEFT JOIN partitioning.months AS m ON m.table_id = t.id
GROUP BY t.id;
