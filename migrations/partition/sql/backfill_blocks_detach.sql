ALTER TABLE {loading} DETACH PARTITION {partition};
