"""Online monthly partitioning of a live table: a library and a command line, one phase a step."""
