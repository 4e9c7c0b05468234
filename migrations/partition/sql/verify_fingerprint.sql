-- On one snapshot for all connections and both tables, a range of blocks at a time.
SELECT date_trunc('month', {key})::date::text AS month, count(*) AS rows,
    sum(hash_record_extended(ROW({hashed_columns}), 0)::numeric) AS digest
FROM {relation} WHERE {range}
GROUP BY 1;
