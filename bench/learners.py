"""A database with simulated learners, as the application's tables and migrations have it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg

from tests.servers import running_postgres

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def learners(actors: int, reviews: int, seed: int = 1) -> Iterator[str]:
    """Yield the URL of a database of its own with so many learners and reviews."""
    # fsync as in production costs nothing here: what is measured hardly writes.
    with running_postgres(shared_buffers="1GB") as postgres:
        _, url = postgres.create_database()
        environment = {**os.environ, "DATABASE_URL": url}
        sizes = ["--actors", str(actors), "--reviews", str(reviews), "--seed", str(seed)]
        for command in (["migrations", "upgrade"], ["history", "simulate", *sizes]):
            subprocess.run(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE review_logs")
        yield url


def actors_by_reviews(connection: psycopg.Connection) -> list[tuple[UUID, int]]:
    """Return the actors with their numbers of reviews, most first."""
    return connection.execute(
        'SELECT "actorId", count(*) FROM review_logs GROUP BY 1 ORDER BY 2 DESC, 1'
    ).fetchall()
