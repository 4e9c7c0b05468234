-- Changes nothing, but locks the view and nothing else: before the table, as its readers do.
ALTER VIEW {view} OWNER TO {owner};
