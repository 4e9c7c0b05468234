ALTER TABLE {live} RENAME TO {outgoing_name};
ALTER TABLE {incoming} RENAME TO {live_name};
