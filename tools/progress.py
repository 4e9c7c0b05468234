"""Showing what a long step does: a live line on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

_LOG_SECONDS = 20
"""How often a step that goes on speaks up where the output is no terminal."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line on standard error."""
    console.print(text, markup=False)


class Step:
    """A running step; told how far it is."""

    def __init__(self, name: str, live: Progress | None) -> None:
        self._name = name
        self._live = live
        self._task = live.add_task(name, total=None, note="") if live is not None else None
        self._started = self._spoke = time.monotonic()

    def update(self, note: str, done: int | None = None, total: int | None = None) -> None:
        """Show `note`, and how much of `total` is done where that is known."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, note=note, completed=done, total=total)
        elif time.monotonic() - self._spoke >= _LOG_SECONDS:
            self._spoke = time.monotonic()
            share = f" {100 * done // total} %" if done is not None and total else ""
            say(f"{self._name}:{share} {note} ({self._spoke - self._started:.0f} s)")


@contextmanager
def step(name: str, *, download: bool = False) -> Generator[Step]:
    """Show a step while it runs; say how long it took when it succeeded."""
    started = time.monotonic()
    if sys.stderr.isatty():
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn()) if download else ()
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *columns,
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        ) as live:
            yield Step(name, live)
    else:
        say(f"{name} ...")
        yield Step(name, None)
    say(f"{name}: done in {time.monotonic() - started:.0f} s")
