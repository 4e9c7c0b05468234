"""Writers during a whole run: pgbench's mix of inserts, updates and deletes, and its own log."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.partitioning_data import ACTORS, FLASHCARDS
from bench.partitioning_server import program

CLIENTS = 8

_SCRIPTS = Path(__file__).resolve().parent / "pgbench"
_WEIGHTS = {"insert": 80, "update": 15, "delete": 5}


@dataclass(frozen=True)
class Write:
    """One transaction of pgbench."""

    began: float
    """Seconds since the epoch."""
    seconds: float

    @property
    def ended(self) -> float:
        return self.began + self.seconds


class Writers:
    """A running pgbench."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self._process = process
        self._directory = directory
        self.writes: list[Write] = []
        """All transactions, in no order, once it has ended."""

    def check(self) -> None:
        """Raise RuntimeError if pgbench ended: a client met an error."""
        if self._process.poll() is not None:
            raise RuntimeError(f"pgbench ended: {self._process.communicate()[1][-2000:]}")

    def end(self) -> None:
        """End as if its time were up, in order and with the log written out, and read the log."""
        self._process.send_signal(signal.SIGALRM)
        self._process.communicate(timeout=30)
        for file in self._directory.glob("log.*"):
            for line in file.read_text().splitlines():
                _, _, latency, _, seconds, microseconds = line.split()[:6]
                took = int(latency) / 1e6
                ended = int(seconds) + int(microseconds) / 1e6
                self.writes.append(Write(ended - took, took))


@contextmanager
def writers(url: str) -> Iterator[Writers]:
    """Run the mix on 8 connections, as fast as it goes, with prepared statements.

    Raises RuntimeError if a client met an error.
    """
    with tempfile.TemporaryDirectory(prefix="bench-pgbench-") as name:
        directory = Path(name)
        command = [program("pgbench"), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1"]
        command += ["-T", "3600", "--log", f"--log-prefix={directory / 'log'}"]
        command += ["-D", f"actors={ACTORS}", "-D", f"flashcards={FLASHCARDS}"]
        for script, weight in _WEIGHTS.items():
            command += ["-f", f"{_SCRIPTS / script}.sql@{weight}"]
        connection = conninfo_to_dict(url)
        password = connection.pop("password")  # Not for the list of processes.
        process = subprocess.Popen(
            [*command, make_conninfo("", **connection)],
            env={**os.environ, "PGPASSWORD": str(password)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = Writers(process, directory)
        try:
            yield running
            running.check()
        finally:
            running.end()


def rate(writes: list[Write], begin: float, end: float) -> float:
    """Return transactions a second that ended between two moments."""
    return sum(begin <= write.ended < end for write in writes) / max(end - begin, 1e-9)


def longest(writes: list[Write], begin: float, end: float) -> float:
    """Return the longest transaction, in seconds, that ran at some moment in between."""
    return max(
        (write.seconds for write in writes if write.began < end and write.ended > begin), default=0
    )


@contextmanager
def reader(url: str, seconds: float) -> Iterator[None]:
    """Read the table in one transaction that stays open for so long."""
    ready = threading.Event()

    def read() -> None:
        with psycopg.connect(url) as connection:
            connection.execute("SELECT count(*) FROM review_logs")
            ready.set()
            time.sleep(seconds)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    ready.wait()
    yield
    thread.join()
