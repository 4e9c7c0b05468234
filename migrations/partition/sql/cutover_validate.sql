ALTER TABLE {partition} VALIDATE CONSTRAINT {constraint};
