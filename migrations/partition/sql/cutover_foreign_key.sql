-- Enforced for every write from now on; the rows there are validated afterwards, without blocking.
ALTER TABLE {partition} {additions};
