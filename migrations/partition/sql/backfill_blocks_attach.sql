ALTER TABLE {loading} ATTACH PARTITION {partition} FOR VALUES FROM ({lower}) TO ({upper});
