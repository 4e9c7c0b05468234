CREATE SCHEMA IF NOT EXISTS workers;

-- The months that have to be summed up again: written by the trigger of review_changes.sql in the
-- transaction that changes a month's reviews, and for every month of a table seen for the first
-- time; taken away by the transaction that sums the month up, if its snapshot shows them.
CREATE TABLE IF NOT EXISTS workers.review_changes (month date NOT NULL);

-- The months that are summed up: by what definition, and from which tables, as they were then.
CREATE TABLE IF NOT EXISTS workers.complexity_months (
    month date PRIMARY KEY,
    version bigint NOT NULL,
    definition text NOT NULL,
    sources text [] NOT NULL,
    reviews bigint NOT NULL,
    pairs bigint NOT NULL,
    summed_at timestamptz NOT NULL DEFAULT now()
);
CREATE SEQUENCE IF NOT EXISTS workers.complexity_versions;

-- The tables of reviews whose months were all noted in review_changes at some time since which the
-- trigger notes every change.
CREATE TABLE IF NOT EXISTS workers.complexity_sources (state text PRIMARY KEY);

-- Small numbers for cards and actors.
CREATE TABLE IF NOT EXISTS workers.complexity_numbers (
    id uuid PRIMARY KEY,
    number integer GENERATED ALWAYS AS IDENTITY
);

-- Per month, actor and card the sums of weight and of weight times signal, weights being those at
-- the end of the month; packed by complexity_store.sql, some cards to a part.
CREATE TABLE IF NOT EXISTS workers.complexity_sums (
    part integer NOT NULL,
    month date NOT NULL,
    pairs bytea NOT NULL,
    PRIMARY KEY (part, month)
);
CREATE INDEX IF NOT EXISTS complexity_sums_month ON workers.complexity_sums (month);
ALTER TABLE workers.complexity_sums ALTER COLUMN pairs SET STORAGE EXTERNAL;

-- Per month and actor what the reputation needs.
CREATE TABLE IF NOT EXISTS workers.complexity_actors (
    month date NOT NULL,
    actor_id uuid NOT NULL,
    reviews bigint NOT NULL,
    first_reviewed_at timestamp NOT NULL,
    last_reviewed_at timestamp NOT NULL,
    PRIMARY KEY (month, actor_id)
);

-- The sums of complexity_sums over the months that complexity_history_months lists.
CREATE TABLE IF NOT EXISTS workers.complexity_history (
    part integer PRIMARY KEY,
    pairs bytea NOT NULL
);
ALTER TABLE workers.complexity_history ALTER COLUMN pairs SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS workers.complexity_history_months (
    month date PRIMARY KEY,
    version bigint NOT NULL
);
