GRANT USAGE ON SCHEMA partitioning TO {reader};
GRANT SELECT ON partitioning.progress TO {reader};
