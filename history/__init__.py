"""A review history for an empty database: simulated learners, or an Anki export.

`python -m history simulate` and `python -m history anki PATH` load it; `DATABASE_URL` says where.
"""
