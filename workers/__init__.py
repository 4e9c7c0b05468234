"""Queue workers, scheduler and exporter of the learning platform.

Run them with `python -m workers fsrs-optimization|complexity|scheduler|exporter`; each takes its
settings from environment variables (`--help` lists them).
"""
