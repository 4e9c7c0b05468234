CREATE SCHEMA IF NOT EXISTS workers;

-- The last FSRS optimization of each actor.
CREATE TABLE IF NOT EXISTS workers.fsrs_runs (
    actor_id uuid PRIMARY KEY,
    reviews bigint NOT NULL,
    items bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('trained', 'kept_default', 'skipped')),
    reason text NOT NULL,
    log_loss double precision,
    rmse_bins double precision,
    default_log_loss double precision,
    default_rmse_bins double precision,
    finished_at timestamptz NOT NULL DEFAULT now()
);

-- Every complexity calculation.
CREATE TABLE IF NOT EXISTS workers.complexity_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cdc_version integer NOT NULL,
    reviews bigint NOT NULL,
    actors bigint NOT NULL,
    nodes bigint NOT NULL,
    edges bigint NOT NULL,
    scored bigint NOT NULL,
    written bigint NOT NULL,
    iterations integer NOT NULL,
    seconds double precision NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now()
);
