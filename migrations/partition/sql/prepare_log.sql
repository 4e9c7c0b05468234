-- The keys that were written while their month was not live, in the order they were written.
CREATE TABLE {log} (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    month date,
    {primary_key_definitions}
);
CREATE INDEX ON {log} (month, seq);
