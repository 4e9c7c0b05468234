DROP TABLE {retired};
DROP TABLE {log};
