"""Progress of long work: plain lines on standard error with rate and time left."""

from __future__ import annotations

import sys
import threading
import time


class Reporter:
    """Tells the operator what happens; `quiet` keeps it to itself."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()

    def say(self, message: str) -> None:
        """Print one line."""
        if not self._quiet:
            with self._lock:
                print(message, file=sys.stderr, flush=True)


class Progress:
    """Rows done out of an estimate; safe to advance from several threads.

    A line is printed every second on a terminal, where it replaces the last, else every five.
    """

    def __init__(self, reporter: Reporter, label: str, rows: int, done: int = 0) -> None:
        self._reporter = reporter
        self._label = label
        self._total = rows
        self._found = done
        self._done = done
        self._started = time.monotonic()
        self._said = self._started
        self._every = 1 if sys.stderr.isatty() else 5
        self._ended: float | None = None
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """Rows done in this run."""
        return self._done - self._found

    @property
    def seconds(self) -> float:
        """Since the beginning, up to `finish`."""
        return (self._ended or time.monotonic()) - self._started

    @property
    def rows_per_second(self) -> float:
        return self.rows / max(self.seconds, 1e-6)

    def advance(self, rows: int) -> None:
        """Count rows as done, and tell the operator from time to time."""
        with self._lock:
            self._done += rows
            now = time.monotonic()
            if now - self._said < self._every:
                return
            self._said = now
            line = self.line()
        self._reporter.say(line)

    def finish(self) -> None:
        """Stop the clock."""
        self._ended = time.monotonic()

    def line(self) -> str:
        """Return where the work stands, in one line."""
        total = max(self._total, self._done)
        rate = self.rows_per_second
        left = f"{(total - self._done) / rate:,.0f} s left" if rate else "time left unknown"
        share = self._done / total if total else 1
        return (
            f"{self._label}: {self._done:,} of about {total:,} rows ({share:.0%}), "
            f"{rate:,.0f} rows/s, {left}"
        )
