-- Loads the months that are not begun all at once; it has no indexes, only sorts rows by month.
CREATE TABLE {loading} (
    LIKE {partitioned} INCLUDING DEFAULTS INCLUDING GENERATED
) PARTITION BY RANGE ({key});
