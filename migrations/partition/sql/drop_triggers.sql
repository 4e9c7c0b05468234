DROP TRIGGER IF EXISTS partitioning_insert ON {relation};
DROP TRIGGER IF EXISTS partitioning_update ON {relation};
DROP TRIGGER IF EXISTS partitioning_delete ON {relation};
DROP TRIGGER IF EXISTS partitioning_truncate ON {relation};
