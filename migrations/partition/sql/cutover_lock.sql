-- With a lock timeout; given up, and tried again later, if it cannot be had at once.
LOCK TABLE {relation} IN {mode} MODE;
