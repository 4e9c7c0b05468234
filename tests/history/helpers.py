"""What tests of the history share: loading in this process, and the command line in another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import psycopg

from history.loading import Outcome, load
from history.simulation import simulate
from history.sources import Simulated

ROOT = Path(__file__).resolve().parents[2]
END = date(2025, 7, 1)
REVLOG_COLUMNS = ("id", "cid", "ease", "ivl", "lastIvl", "factor", "time", "type")


class Silent:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.reviews = 0

    def say(self, message: str) -> None:
        self.said.append(message)

    def advance(self, reviews: int) -> None:
        self.reviews += reviews


def load_simulated(connection: psycopg.Connection, **values: int) -> Outcome:
    """Load simulated learners whose history ends on END; 12 of them with 2,000 reviews at least."""
    source = Simulated.model_validate({"actors": 12, "reviews": 2_000, "months": 6, **values})
    return load(connection, simulate(source, END), Silent())


def environment(database_url: str | None) -> dict[str, str]:
    values = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return values if database_url is None else {**values, "DATABASE_URL": database_url}


def start(database_url: str | None, *arguments: str) -> subprocess.Popen[str]:
    """Start `python -m history`."""
    return subprocess.Popen(
        [sys.executable, "-m", "history", *arguments],
        cwd=ROOT,
        env=environment(database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(database_url: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m history` to its end."""
    process = start(database_url, *arguments)
    output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def numbers(connection: psycopg.Connection) -> dict[str, int]:
    """Count the rows of every table."""
    names = ("actors", "flashcards", "review_logs", "nodes", "edges")
    return {name: value(connection, f"SELECT count(*) FROM {name}") for name in names}


def value(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert row is not None
    return row[0]


EMPTY = {"actors": 0, "flashcards": 0, "review_logs": 0, "nodes": 0, "edges": 0}

Entry = Sequence[object]


def write_csv(path: Path, entries: Sequence[Entry]) -> Path:
    """Write a revlog as CSV; an entry has the values of REVLOG_COLUMNS."""
    lines = [REVLOG_COLUMNS, *entries]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    return path
