"""The application's own client as a process: `tests/migrations/node/application.ts`, compiled."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from migrations import schema
from tests.migrations.databases import TYPEORM
from tests.node import install, node

SOURCE = Path(__file__).parent / "node"

DAYS = 150
# Over the last months, in milliseconds, which is what a Date of JavaScript holds.
_SPREAD = """
UPDATE review_logs SET reviewed_at = date_trunc('milliseconds',
    now()::timestamp - random() * make_interval(days => %s))
"""
# What the tables of a live application have: a column that is no more.
_DROPPED = "ALTER TABLE review_logs ADD COLUMN note text; ALTER TABLE review_logs DROP COLUMN note"

_ROWS = """
SELECT id::text, "flashcardId"::text, "actorId"::text, rating, state, elapsed_time AS "elapsedTime",
    reviewed_at AS "reviewedAt", scheduled_on AS "scheduledOn", "previousState"
FROM review_logs
"""

Row = dict[str, Any]


def create(url: str) -> None:
    """Create production's tables, as TypeORM made them, with 1000 reviews of the last months."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TYPEORM.encode())
        connection.execute(_DROPPED)
        connection.execute(_SPREAD, [DAYS])
    schema.upgrade(url)


def reviews(url: str) -> dict[str, Row]:
    """Return all reviews by key, as the entities name their properties."""
    with psycopg.connect(url) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return {row["id"]: row for row in cursor.execute(_ROWS)}


@contextmanager
def compiled(migrations: Path | None = None) -> Iterator[Path]:
    """Give a directory with the compiled client, and with migrations of that directory if any."""
    packages = install("application-client", SOURCE)
    directory = Path(tempfile.mkdtemp(prefix="build-", dir=packages))
    try:
        for file in (*SOURCE.glob("*.ts"), SOURCE / "tsconfig.json"):
            shutil.copyfile(file, directory / file.name)
        if migrations is not None:
            shutil.copytree(migrations, directory / "migrations")
        compiler = packages / "node_modules" / "typescript" / "bin" / "tsc"
        completed = subprocess.run(
            [node().node, compiler, "-p", directory], capture_output=True, text=True
        )
        assert completed.returncode == 0, completed.stdout
        yield directory / "dist"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Application:
    """The running client. It has a deadline of its own: no test waits for it without end."""

    def __init__(self, program: Path, url: str, **environment: str) -> None:
        self.counts: dict[str, int] = {}
        self.errors: list[Row] = []
        self.claimed: set[str] = set()
        self.rows: dict[str, Row] = {}
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [node().node, program / "application.js"],
            env={**node().environment, "TZ": "UTC", "DATABASE_URL": url, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def actions(self) -> int:
        return sum(self.counts.values())

    def wait_for(self, actions: int, seconds: float = 60) -> None:
        """Wait until that many more actions were done, or an error was shown."""
        assert self._ready.wait(seconds), f"not ready: {self.errors}"
        goal = self.actions + actions
        deadline = time.monotonic() + seconds
        while self.actions < goal and not self.errors:
            assert time.monotonic() < deadline, f"stuck after {self.counts}"
            assert self._process.poll() is None, "ended by itself"
            time.sleep(0.05)

    def stop(self) -> int:
        """End it as a deployment does, unless an error ends it already; return its exit code."""
        if not self.errors:
            self._process.terminate()
        code = self._process.wait(60)
        self._reader.join(60)
        assert self._process.stderr is not None
        told = self._process.stderr.read()
        assert told == "", told
        return code

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            match told["event"]:
                case "ready":
                    self.claimed = set(told["claimed"])
                    self._ready.set()
                case "progress" | "end":
                    self.counts = told["counts"]
                case "row":
                    self.rows[told["row"]["id"]] = told["row"]
                case _:
                    self.errors.append(told)
                    self._ready.set()


@contextmanager
def running(program: Path, url: str, **environment: str) -> Iterator[Application]:
    application = Application(program, url, **environment)
    try:
        yield application
    finally:
        application.kill()


def differences(told: dict[str, Row], found: dict[str, Row]) -> list[str]:
    """Say which reviews the client committed otherwise than the database has them.

    Equal times differ by less than a millisecond: the default `now()` has microseconds.
    """
    result = [f"{key}: not in the database" for key in sorted(told.keys() - found.keys())]
    result += [f"{key}: nobody wrote it" for key in sorted(found.keys() - told.keys())]
    for key in sorted(told.keys() & found.keys()):
        for name, value in found[key].items():
            other = told[key][name]
            if isinstance(value, datetime) and isinstance(other, str):
                other = datetime.fromisoformat(other).replace(tzinfo=None)
                if abs(value - other) < timedelta(milliseconds=1):
                    continue
            if other != value:
                result.append(f"{key}: {name} is {value!r}, written was {other!r}")
    return result
