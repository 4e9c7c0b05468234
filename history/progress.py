"""Progress of a load on standard error: a bar on a terminal, else a line a second."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

_SECONDS_A_LINE = 1.0


class Reporter(Protocol):
    """Is told what happens."""

    def say(self, message: str) -> None:
        """Show a line that stays."""
        ...

    def advance(self, reviews: int) -> None:
        """Count reviews stored since the last call."""
        ...


@contextmanager
def shown_progress(total: int) -> Generator[Reporter]:
    """Show how many of `total` reviews are stored, the rate, and the time left."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _Lines(console, total)
        return
    columns = (TextColumn("reviews"), BarColumn(), _StandColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress, total)


def stand(done: int, total: int, seconds: float) -> str:
    """Say how far `done` of `total` reviews in `seconds` is.

    >>> stand(50_000, 200_000, 2.0)
    '50,000 of 200,000 reviews (25%), 25,000/s, 6 s left'
    """
    text = f"{done:,} of {total:,} reviews ({100 * done // total}%)"
    if not done or seconds <= 0:
        return text
    rate = done / seconds
    return f"{text}, {rate:,.0f}/s, {_duration((total - done) / rate)} left"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole / 3600:.1f} h"


class _Lines:
    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = 0
        self._begun = self._shown = time.monotonic()

    def say(self, message: str) -> None:
        self._console.print(message, markup=False)

    def advance(self, reviews: int) -> None:
        self._done += reviews
        now = time.monotonic()
        if now - self._shown >= _SECONDS_A_LINE or self._done == self._total:
            self._shown = now
            self.say(stand(self._done, self._total, now - self._begun))


class _StandColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(stand(int(task.completed), int(task.total or 0), task.elapsed or 0))


class _Bar:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("reviews", total=total)

    def say(self, message: str) -> None:
        self._progress.console.print(message, markup=False)

    def advance(self, reviews: int) -> None:
        self._progress.update(self._task, advance=reviews)
