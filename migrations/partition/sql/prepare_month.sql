-- Not attached yet: loading touches nothing but this table. The check spares ATTACH its scan.
CREATE TABLE {partition} (
    LIKE {partitioned} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS
    INCLUDING STORAGE INCLUDING COMPRESSION,
    CONSTRAINT partitioning_bounds CHECK ({key} >= {lower} AND {key} < {upper})
){storage};
