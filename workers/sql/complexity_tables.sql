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

-- Per month, actor and card the sums of weight and of weight times signal; weights are those at
-- the end of the month.
CREATE TABLE IF NOT EXISTS workers.complexity_sums (
    month date NOT NULL,
    actor_id uuid NOT NULL,
    flashcard_id uuid NOT NULL,
    weight double precision NOT NULL,
    signal double precision NOT NULL
);
CREATE INDEX IF NOT EXISTS complexity_sums_month ON workers.complexity_sums
USING brin (month) WITH (pages_per_range = 16);

-- Per month and actor what the reputation needs.
CREATE TABLE IF NOT EXISTS workers.complexity_actors (
    month date NOT NULL,
    actor_id uuid NOT NULL,
    reviews bigint NOT NULL,
    first_reviewed_at timestamp NOT NULL,
    last_reviewed_at timestamp NOT NULL,
    PRIMARY KEY (month, actor_id)
);

-- Small numbers for cards and actors.
CREATE TABLE IF NOT EXISTS workers.complexity_numbers (
    id uuid PRIMARY KEY,
    number integer GENERATED ALWAYS AS IDENTITY
);

-- The sums of complexity_sums over the months that complexity_history_months lists, packed by
-- complexity_pack.sql.
CREATE TABLE IF NOT EXISTS workers.complexity_history (
    part bigint PRIMARY KEY,
    pairs bytea NOT NULL
);
ALTER TABLE workers.complexity_history ALTER COLUMN pairs SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS workers.complexity_history_months (
    month date PRIMARY KEY,
    version bigint NOT NULL
);
