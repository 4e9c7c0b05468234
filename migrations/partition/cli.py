"""Command line: `python -m migrations.partition plan|prepare|sync|backfill|...`."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from migrations.database import DatabaseError, database_url
from migrations.partition import bookkeeping, runs, throttle
from migrations.partition.engine import Engine, Options, Outcome, open_session
from migrations.partition.errors import Busy, Refused, failure
from migrations.partition.locks import in_short_transaction, operator_lock, starved
from migrations.partition.phases import Phase
from migrations.partition.progress import Reporter
from migrations.partition.spec import SpecError, load_spec

app = typer.Typer(
    help=(
        "Turn a live table into one partitioned by month: prepare, sync, backfill, verify, cutover,"
        " retire. Every phase can be run again. The connection is in DATABASE_URL."
        " Exit code 0: done; 1: refused or failed; 2: wrong usage."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

SpecOption = Annotated[Path, typer.Option("--spec", help="The spec file (TOML).")]
TimeoutOption = Annotated[
    int,
    typer.Option("--lock-timeout", min=1, max=10_000, help="Milliseconds to wait for a lock."),
]
AttemptsOption = Annotated[
    int, typer.Option(min=1, max=100_000, help="Attempts to get a lock, with pauses in between.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as a JSON object, on the last line.")
]
JobsOption = Annotated[int, typer.Option(min=1, max=64, help="Connections to work on.")]
HoldOption = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds that the old table is kept at least; default: the spec's."),
]
LagOption = Annotated[
    float | None,
    typer.Option(
        "--max-lag",
        min=0,
        help="Hold back while a standby or subscriber is more seconds behind. Default: 10.",
    ),
]
LagBytesOption = Annotated[
    int | None,
    typer.Option("--max-lag-bytes", min=0, help="The same in bytes of the write-ahead log."),
]
ActiveOption = Annotated[
    int | None,
    typer.Option(
        "--max-active", min=0, help="Hold back while more sessions of others than that are active."
    ),
]
DiskOption = Annotated[
    int | None,
    typer.Option("--disk-free", min=0, help="Bytes free where the new table will lie."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Drop the old table, held or different as it may be.")
]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Mend the rows that differ, and compare again.")
]

SPEC = Path("migrations/review_logs.toml")


def _run(
    purpose: str,
    work: Callable[[Engine], Outcome],
    spec: Path,
    options: Options,
    as_json: bool,
    *,
    exclusive: bool = True,
    yields: bool = False,
) -> None:
    """Do the work on a session of its own, print the result, and leave with its exit code.

    With `yields` it is no failure if somebody else works on the table.
    """
    try:
        outcome = _outcome(purpose, work, spec, options, exclusive, 0 if yields else None)
    except Busy as error:
        outcome = Outcome("found" if yields else "refused", str(error))
    except (Refused, SpecError, DatabaseError) as error:
        outcome = Outcome("refused", str(error))
    except psycopg.Error as error:
        outcome = Outcome("failed", failure(error))
    except KeyboardInterrupt:
        outcome = Outcome("refused", "stopped on request; run it again to go on from here")
    succeeded = outcome.outcome not in ("refused", "failed")
    if as_json:
        typer.echo(json.dumps(outcome.as_json()))
    if not (as_json and succeeded):
        typer.echo(outcome.message, err=not succeeded)
    if not succeeded:
        raise typer.Exit(1)


def _outcome(
    purpose: str,
    work: Callable[[Engine], Outcome],
    spec_path: Path,
    options: Options,
    exclusive: bool,
    patience: float | None,
) -> Outcome:
    spec = load_spec(spec_path)
    url = database_url()
    with open_session(url, spec, purpose, options) as connection:
        engine = Engine(spec, url, connection, options, Reporter(), purpose)

        def stop(*_: object) -> None:
            # Cancelling waits for the server: not in a signal handler.
            threading.Thread(target=engine.stop, daemon=True).start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        try:
            with operator_lock(engine, patience) if exclusive else nullcontext():
                if exclusive:
                    in_short_transaction(engine, "bookkeeping", bookkeeping.upgrade)
                return work(engine)
        except psycopg.errors.QueryCanceled:
            engine.check_stop()
            raise
        except psycopg.errors.LockNotAvailable as error:
            raise starved(engine, f"{purpose}: a lock could not be had") from error


@app.command()
def plan(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    disk_free: DiskOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what will be done, SQL included, and every reason to refuse. Changes nothing."""
    options = Options(lock_timeout, attempts, disk_free=disk_free)
    _run("plan", runs.plan, spec, options, as_json, exclusive=False)


@app.command()
def prepare(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    as_json: JsonOption = False,
) -> None:
    """Create the partitioned table, a table for each month, and the bookkeeping."""
    _run("prepare", runs.PHASES[Phase.PREPARE], spec, Options(lock_timeout, attempts), as_json)


@app.command()
def sync(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    as_json: JsonOption = False,
) -> None:
    """Mirror every write from now on, by triggers."""
    _run("sync", runs.PHASES[Phase.SYNC], spec, Options(lock_timeout, attempts), as_json)


@app.command()
def backfill(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    jobs: JobsOption = 2,
    max_lag: LagOption = None,
    max_lag_bytes: LagBytesOption = None,
    max_active: ActiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load all rows, month by month. Goes on where it was stopped.

    Between two slices it holds back while it is paused, while replication is behind, while
    sessions wait for locks on the table, and while too many sessions are active.
    """
    options = Options(
        lock_timeout,
        attempts,
        jobs,
        max_lag_seconds=max_lag,
        max_lag_bytes=max_lag_bytes,
        max_active=max_active,
    )
    _run("backfill", runs.PHASES[Phase.BACKFILL], spec, options, as_json)


@app.command()
def verify(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    jobs: JobsOption = 2,
    repair: RepairOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare both tables, row for row, while they are in use; list the keys that differ."""
    options = Options(lock_timeout, attempts, jobs, repair=repair)
    _run("verify", runs.PHASES[Phase.VERIFY], spec, options, as_json)


@app.command()
def cutover(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    as_json: JsonOption = False,
) -> None:
    """Give the new table the name, and keep the old one in step."""
    _run("cutover", runs.PHASES[Phase.CUTOVER], spec, Options(lock_timeout, attempts), as_json)


@app.command()
def retire(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    jobs: JobsOption = 2,
    hold: HoldOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop the old table, if it is equal and was held long enough."""
    options = Options(lock_timeout, attempts, jobs, _duration(hold), force)
    _run("retire", runs.PHASES[Phase.RETIRE], spec, options, as_json)


@app.command()
def run(
    until: Annotated[Phase, typer.Option(help="The last phase to do.")] = Phase.CUTOVER,
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    jobs: JobsOption = 2,
    repair: RepairOption = False,
    hold: HoldOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Do all phases in order, as far as told."""
    options = Options(lock_timeout, attempts, jobs, _duration(hold), force, repair=repair)
    _run("run", lambda engine: runs.run(engine, until), spec, options, as_json)


@app.command()
def status(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    as_json: JsonOption = False,
) -> None:
    """Say which phase is done, how many months are live, and what waits."""
    options = Options(lock_timeout, attempts)
    _run("status", runs.status, spec, options, as_json, exclusive=False)


@app.command()
def maintain(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    most_rows: Annotated[
        int,
        typer.Option(
            min=0,
            help="Rows of one month to move out of the default partition; it is locked meanwhile.",
        ),
    ] = 10_000,
    as_json: JsonOption = False,
) -> None:
    """Make partitions for the months ahead, let old ones go, empty the default partition.

    For cron, on as many hosts as you like: while another works on the table it says so, and exits
    with 0. Partitions older than the spec's `retention` are detached, then kept as tables or
    dropped (`expired`), from retire on.
    """
    options = Options(lock_timeout, attempts, most_rows=most_rows)
    _run("maintain", runs.maintain, spec, options, as_json, yields=True)


@app.command()
def pause(spec: SpecOption = SPEC, as_json: JsonOption = False) -> None:
    """Let a running backfill, on whatever host, stand still after its present slice."""
    _run("pause", throttle.pause, spec, Options(), as_json, exclusive=False)


@app.command()
def resume(spec: SpecOption = SPEC, as_json: JsonOption = False) -> None:
    """Let a paused backfill go on."""
    _run("resume", throttle.resume, spec, Options(), as_json, exclusive=False)


@app.command()
def rollback(
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    as_json: JsonOption = False,
) -> None:
    """Swap back after cutover, without loss; the same as `undo cutover`."""
    _run("rollback", runs.UNDOS[Phase.CUTOVER], spec, Options(lock_timeout, attempts), as_json)


@app.command()
def undo(
    phase: Phase,
    spec: SpecOption = SPEC,
    lock_timeout: TimeoutOption = 500,
    attempts: AttemptsOption = 60,
    as_json: JsonOption = False,
) -> None:
    """Take the last phase back, where that is safe."""
    options = Options(lock_timeout, attempts)
    _run(f"undo {phase}", runs.UNDOS[phase], spec, options, as_json)


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def main() -> None:
    """Run the command line."""
    sys.exit(app(prog_name="python -m migrations.partition"))
