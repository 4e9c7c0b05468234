"""Command line: `python -m history simulate|anki`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from pydantic import ValidationError

from history.anki import read_revlog
from history.connection import connect
from history.loading import Outcome, load
from history.progress import shown_progress
from history.replay import anki_rows
from history.rows import Rows
from history.simulation import end_of, simulate
from history.sources import Anki, HistoryError, Simulated, explained

app = typer.Typer(
    help="Load a review history into the application's tables, where they are empty.",
    epilog="DATABASE_URL says where: postgresql://role:password@host:port/database.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[
    bool, typer.Option("--json", help="End standard output with one line of JSON: the result.")
]
_DEFAULT = Simulated()


@app.command("simulate")
def simulate_command(
    actors: Annotated[int, typer.Option(help="Learners.")] = _DEFAULT.actors,
    reviews: Annotated[int, typer.Option(help="Reviews of all of them.")] = _DEFAULT.reviews,
    months: Annotated[int, typer.Option(help="Calendar months it lasts.")] = _DEFAULT.months,
    seed: Annotated[int, typer.Option(help="Another seed, another history.")] = _DEFAULT.seed,
    end: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="First day (UTC) without reviews. [default: today]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load simulated learners, whose memory follows FSRS-6 with weights of their own.

    The same options and the same end give the same rows, ids included.
    """
    with _usage_errors():
        source = Simulated(
            actors=actors,
            reviews=reviews,
            months=months,
            seed=seed,
            end=end.date() if end else None,
        )
    _finish(_load(source.reviews, simulate(source, end_of(source))), as_json, {})


@app.command("anki")
def anki_command(
    path: Annotated[
        Path,
        typer.Argument(
            help="collection.anki2, collection.anki21 or another SQLite file with the table "
            "revlog; or that table as CSV with a header."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Load the reviews of one person from an Anki export.

    Reschedules by hand are no reviews and are skipped. The file is checked as a whole before
    anything is changed, and never written to.
    """
    source = Anki(path=path)
    revlog = read_revlog(source.path)
    if revlog.skipped:
        typer.echo(f"skipped {revlog.skipped:,} reschedules: they are no reviews", err=True)
    outcome = _load(len(revlog), anki_rows(revlog))
    _finish(outcome, as_json, {"skipped": revlog.skipped})


def _load(reviews: int, rows: Iterator[Rows]) -> Outcome:
    try:
        with connect() as connection, shown_progress(reviews) as reporter:
            return load(connection, rows, reporter)
    except psycopg.Error as error:
        reason = error.diag.message_primary or " ".join(str(error).split())
        raise HistoryError(f"the database failed, nothing was changed: {reason}") from None
    except KeyboardInterrupt:
        raise HistoryError("stopped, nothing was changed: run it again to load") from None


def _finish(outcome: Outcome, as_json: bool, more: dict[str, Any]) -> None:
    if as_json:
        typer.echo(outcome.message, err=True)
        typer.echo(json.dumps({**asdict(outcome), **more}))
    else:
        typer.echo(outcome.message)


@contextmanager
def _usage_errors() -> Generator[None]:
    """Turn what pydantic finds into wrong usage of the options, which are named like fields."""
    try:
        yield
    except ValidationError as error:
        problems = [f"--{explained(dict(detail))}" for detail in error.errors()]
        raise typer.BadParameter("; ".join(problems)) from None


def main() -> None:
    """Run the command line; 1 if refused, failed or stopped, with one message; 2 on wrong usage."""
    # Stopped as by Ctrl-C: the transaction is rolled back and the connection closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app(prog_name="python -m history")
    except HistoryError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
