"""The complexity calculation: full and incremental, against the pass one writes first, and growth.

    python -m bench.complexity            2,000,000 reviews: full, shared by two workers, one day
                                          more, and the peer
    python -m bench.complexity growth     0.5, 1, 2 and 4 million reviews
    python -m bench.complexity writers    what the trigger costs those who write reviews

Everything runs on a Postgres (and Valkey) of its own; each contender in a process of its own, whose
peak memory is told. Times are the minimum of the repetitions.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import psycopg
import typer

from bench import complexity_data
from tests.servers import PostgresServer, running_postgres, running_valkey
from tests.workers import worlds
from tests.workers.programs import Producer, programs_on
from workers.complexity_definition import Definition
from workers.settings import COMPLEXITY_QUEUE

app = typer.Typer(help=__doc__, add_completion=False, rich_markup_mode=None)

CONNECTIONS = 2
"""What CDC_CONNECTIONS is by default."""

SAME_SCORE = 2e-9
"""Scores are written where they differ by more than half of it."""

Repetitions = Annotated[int, typer.Option(help="How often each contender runs; the best counts.")]


@contextmanager
def database(server: PostgresServer, reviews: int) -> Iterator[str]:
    """Yield the URL of a filled database."""
    name, url = server.create_database()
    say(f"filling in {reviews:,} reviews")
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            complexity_data.fill(connection, reviews)
        yield url
    finally:
        server.drop_database(name)


def say(text: str) -> None:
    print(f"[{os.getloadavg()[0]:.1f}] {text}", file=sys.stderr, flush=True)


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def forget(url: str) -> None:
    """Take away what calculations left, and let every contender begin with tidy tables."""
    execute(url, "DROP SCHEMA IF EXISTS workers CASCADE")
    execute(url, "UPDATE nodes SET properties = properties - 'cdc_score' - 'cdc_version'")
    tidy(url)


def tidy(url: str) -> None:
    for table in ("nodes", "review_logs"):
        execute(url, f"VACUUM ANALYZE {table}")


def measured(contender: str, url: str) -> dict[str, Any]:
    """Run a contender in a process of its own."""
    completed = subprocess.run(
        [sys.executable, "-m", "bench.complexity", "contender", contender],
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    say(f"{contender}: {result}")
    return result


@app.command(hidden=True)
def contender(name: str) -> None:
    """Run one contender on DATABASE_URL and print what it took."""
    # Imported beforehand, as in a worker that runs already.
    from bench import complexity_peer
    from workers.complexity_calculation import calculate

    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        started, used = time.perf_counter(), time.process_time()
        if name == "peer":
            read = complexity_peer.calculate(connection)
        elif name == "literal":
            read = complexity_peer.literal(connection)
        else:
            read = calculate(connection, Definition(), connections=CONNECTIONS).read
        seconds = time.perf_counter() - started
        cpu = time.process_time() - used + backend_cpu(connection)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    result = {"seconds": seconds, "cpu": cpu, "read": read, "megabytes": megabytes}
    print(json.dumps({key: round(value, 3) for key, value in result.items()}))


def backend_cpu(connection: psycopg.Connection) -> float:
    """Return the processor time of the session's server process, on this machine, in seconds."""
    fields = (
        Path(f"/proc/{connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    )
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def full(url: str, repetitions: int) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for _ in range(repetitions):
        forget(url)
        results.append(measured("full", url))
    return min(results, key=lambda result: result["seconds"])


def incremental(url: str, repetitions: int) -> dict[str, Any]:
    """One day more at a time, after a calculation that read the days before."""
    results: list[dict[str, Any]] = []
    measured("incremental", url)
    for _ in range(repetitions):
        with psycopg.connect(url, autocommit=True) as connection:
            complexity_data.add_day(connection)
        tidy(url)
        results.append(measured("incremental", url))
    return min(results, key=lambda result: result["seconds"])


def shared(url: str, repetitions: int) -> float:
    """Two workers on a queue; seconds from the adding of the job to its completion."""
    best = float("inf")
    for _ in range(repetitions):
        forget(url)
        with (
            running_valkey() as valkey,
            tempfile.TemporaryDirectory() as directory,
            programs_on(url, valkey.url, Path(directory)) as programs,
        ):
            for _ in range(2):
                programs.ready(COMPLEXITY_QUEUE, LOCK_SECONDS="30")
            queue = Producer(valkey.url, COMPLEXITY_QUEUE)
            job = queue.wait_for(queue.add({}), "completed", 600)
            seconds = ((job.finishedOn or 0) - job.timestamp) / 1000
            say(f"shared: {seconds} s")
            best = min(best, seconds)
    return best


def scores(url: str) -> dict[UUID, float]:
    """Return the score of every node that has one."""
    with psycopg.connect(url) as connection:
        return worlds.scores(connection)


def expect_same(ours: dict[UUID, float], others: dict[UUID, float]) -> float:
    """Return the largest difference. Raises SystemExit unless both say the same of every node."""
    if not ours or ours.keys() != others.keys():
        raise SystemExit(f"{len(ours):,} nodes have a score, by the peer {len(others):,}")
    largest = max(abs(score - others[node]) for node, score in ours.items())
    if largest > SAME_SCORE:
        raise SystemExit(f"a score differs from the peer's by {largest:g}")
    return largest


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    reviews: int = 2_000_000,
    repetitions: Repetitions = 2,
    literal: Annotated[bool, typer.Option(help="Run the tests' oracle itself too.")] = False,
) -> None:
    """Compare full, shared and incremental runs with the peer."""
    if context.invoked_subcommand:
        return
    with running_postgres() as server, database(server, reviews) as url:
        ours = full(url, repetitions)
        two = shared(url, repetitions)
        day = incremental(url, repetitions)
        found = scores(url)
        forget(url)
        peer = measured("peer", url)
        difference = expect_same(found, scores(url))
        by_oracle = None
        if literal:
            forget(url)
            by_oracle = measured("literal", url)
    print("| contender | s | CPU s (not of further sessions) | peak memory | times as fast |")
    print("|---|---|---|---|---|")
    for label, result in (
        ("the oracle itself on all rows, one UPDATE each", by_oracle),
        ("all rows fetched, one UPDATE each", peer),
        ("full, one process, two sessions", ours),
        ("one day more", day),
    ):
        if result:
            print(
                f"| {label} | {result['seconds']:.2f} | {result['cpu']:.2f} |"
                f" {result['megabytes']:.0f} MB | {peer['seconds'] / result['seconds']:.1f} |"
            )
    print(f"| full, shared by two workers | {two:.2f} | | | {peer['seconds'] / two:.1f} |")
    print(
        f"\nOne day more: {day['seconds'] / ours['seconds']:.1%} of a full run,"
        f" {day['seconds'] / two:.1%} of a shared one.\n"
        f"Afterwards {len(found):,} scores differ from the peer's by at most {difference:.1g}."
    )


@app.command()
def growth(
    sizes: Annotated[list[int] | None, typer.Argument(help="Reviews in the table.")] = None,
    repetitions: Repetitions = 2,
) -> None:
    """Full and incremental at 0.5, 1, 2 and 4 million reviews."""
    print("| reviews | full, s | µs a review | one day, s | µs a review | peak memory |")
    print("|---|---|---|---|---|---|")
    with running_postgres() as server:
        for reviews in sizes or [500_000, 1_000_000, 2_000_000, 4_000_000]:
            with database(server, reviews) as url:
                ours = full(url, repetitions)
                day = incremental(url, repetitions)
            print(
                f"| {reviews:,} | {ours['seconds']:.2f} | {ours['seconds'] / reviews * 1e6:.2f} |"
                f" {day['seconds']:.2f} | {day['seconds'] / reviews * 1e6:.3f} |"
                f" {max(ours['megabytes'], day['megabytes']):.0f} MB |",
                flush=True,
            )


@app.command()
def writers(rows: int = 20_000) -> None:
    """Insert reviews one by one, and in one statement, with and without the trigger."""
    from workers.complexity_state import ensure_tracking

    one = complexity_data.ONE
    with running_postgres() as server, database(server, 50_000) as url:
        for label in ("without", "with", "without", "with"):
            with psycopg.connect(url, autocommit=True) as connection:
                if label == "with":
                    ensure_tracking(connection)
                else:
                    connection.execute("DROP SCHEMA IF EXISTS workers CASCADE")
                started = time.perf_counter()
                for _ in range(rows):
                    connection.execute(one)
                single = (time.perf_counter() - started) / rows * 1e6
                started = time.perf_counter()
                many = connection.execute(complexity_data.MANY).rowcount
                bulk = (time.perf_counter() - started) / many * 1e6
            print(
                f"{label}: {single:.0f} µs a single insert, {bulk:.2f} µs a row of {many:,} at once"
            )


if __name__ == "__main__":
    app()
