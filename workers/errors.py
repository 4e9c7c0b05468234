"""What can go wrong with a job, as the runtime tells it apart."""


class RefusedJobError(Exception):
    """The job can never succeed as it is; further attempts would be in vain."""


class DatabaseUnavailableError(Exception):
    """Postgres cannot be reached now; the job is fine and waits."""
