"""Changes to the database: schema revisions, and (in `partition`) online partitioning.

Revisions roll forward only: there is no downgrade, neither here nor on the command line. A mistake
is corrected by a further revision, because undoing one drops columns that running workers use.
"""
