"""Benchmarks of the online partitioning: `python -m bench.partitioning --help`.

All contenders of a table run in turn, several rounds, each on a fresh copy of the same database and
on the same server; the medians are compared.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql

from bench import partitioning_contenders as contenders
from bench import partitioning_server as server
from bench import partitioning_writers as pgbench
from bench.partitioning_contenders import ENGINE, Contender
from migrations.partition.phases import Phase
from tests.servers import PostgresServer

app = typer.Typer(
    help=(
        "Measure the online partitioning against its peers. Each command starts Postgres servers of"
        " its own, and prints Markdown. Nothing else should run on the machine meanwhile."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RowsOption = Annotated[int, typer.Option(min=10_000, help="Rows of review_logs.")]
RoundsOption = Annotated[int, typer.Option(min=1, help="How often each contender runs.")]
SecondsOption = Annotated[int, typer.Option(min=1, help="How long each rate is measured.")]

SOURCE = "source"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _table(title: str, heads: list[str], rows: list[list[str]], notes: list[str]) -> None:
    print(f"\n#### {title}\n")
    for cells in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(cells) + " |")
    print("\n" + "\n".join(notes), flush=True)


def _verdict(value: float, wanted: float) -> str:
    return "yes" if value >= wanted else "no"


@dataclass(frozen=True)
class _Time:
    """What a contender took in a round, in seconds: by the clock, and of the processors."""

    seconds: float
    processor: float


def _race(
    running: PostgresServer, entrants: list[Contender], rows: int, rounds: int
) -> dict[str, list[_Time]]:
    """Return what each contender took in each round."""
    times: dict[str, list[_Time]] = defaultdict(list)
    for number in range(rounds):
        # In another order each time: the machine is not the same from minute to minute.
        for contender in entrants[number % len(entrants) :] + entrants[: number % len(entrants)]:
            with server.fresh_copy(running, SOURCE) as url:
                contender.prepare(url)
                began, used = time.monotonic(), server.cpu_seconds(running)
                contender.fill(url)
                took = time.monotonic() - began
                used = server.cpu_seconds(running) - used
                _check(url, contender, rows)
            times[contender.name].append(_Time(took, used))
            _say(
                f"round {number + 1}: {contender.name}: {took:.2f} s, {used:.1f} s of processors,"
                f" {rows / took:,.0f} rows/s"
            )
    return times


def _check(url: str, contender: Contender, rows: int) -> None:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(contender.target))
        ).fetchone()
    if row is None or row[0] != rows:
        raise RuntimeError(f"{contender.name}: {row} rows instead of {rows}")


def _compared(
    title: str,
    running: PostgresServer,
    times: dict[str, list[_Time]],
    rows: int,
    wanted: dict[str, float],
) -> None:
    """Print rates, and the engine's as a multiple of each contender's."""
    lines: list[list[str]] = []
    medians = {
        name: statistics.median(time.seconds for time in taken) for name, taken in times.items()
    }
    for name, taken in times.items():
        ratio = medians[name] / medians[ENGINE.name]
        lines.append(
            [
                name,
                f"{rows / medians[name]:,.0f}",
                " ".join(f"{time.seconds:.1f}" for time in taken),
                f"{statistics.median(time.processor for time in taken):.1f}",
                "" if name == ENGINE.name else f"{ratio:.2f}",
                f"{wanted[name]:.2f} {_verdict(ratio, wanted[name])}" if name in wanted else "",
            ]
        )
    _table(
        title,
        [
            *("contender", "rows/s (median)", "seconds of each round"),
            *("server's CPU seconds", "engine is x faster", "wanted"),
        ],
        lines,
        [f"{rows:,} rows, {server.machine(running)}."],
    )


@app.command()
def backfill(
    rows: RowsOption = 2_000_000,
    rounds: RoundsOption = 3,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Rows in no order of time on disk.")
    ] = False,
) -> None:
    """Compare the backfill with INSERT ... SELECT, with pgslice's batches, and with the floor."""
    with server.embedded() as running, contenders.exchange_directory() as directory:
        _say(f"creating {rows:,} rows")
        server.create_source(running, SOURCE, rows, shuffled=shuffled)
        floor = contenders.floor(directory)
        entrants = [ENGINE, contenders.INSERT_SELECT, contenders.BATCHES, floor]
        times = _race(running, entrants, rows, rounds)
        _compared(
            "Backfill" + (", rows in no order" if shuffled else ""),
            running,
            times,
            rows,
            {
                contenders.INSERT_SELECT.name: 1.9,
                contenders.BATCHES.name: 2.4,
                floor.name: 1 / 1.25,
            },
        )


@app.command()
def partman(rows: RowsOption = 2_000_000, rounds: RoundsOption = 3) -> None:
    """Compare the backfill with pg_partman, on Debian's Postgres 15."""
    with server.distribution() as running:
        _say(f"creating {rows:,} rows")
        server.create_source(running, SOURCE, rows)
        entrants = [ENGINE, contenders.PARTMAN, contenders.INSERT_SELECT]
        times = _race(running, entrants, rows, rounds)
        _compared(
            "pg_partman, on Postgres 15", running, times, rows, {contenders.PARTMAN.name: 2.5}
        )


@dataclass(frozen=True)
class _Run:
    """One run of the command line: what it printed as JSON, and its greatest size."""

    outcome: dict[str, Any]
    seconds: float
    megabytes: float


def _command(url: str, phase: Phase) -> _Run:
    """Run a phase as an operator does."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as spec:
        spec.writelines(
            f"{key} = {json.dumps(value)}\n"
            for key, value in contenders.SPEC.model_dump(exclude_none=True, mode="json").items()
            if key not in ("hold", "retention")
        )
        spec.flush()
        command = [sys.executable, "-m", "migrations.partition", phase.value, "--json"]
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, "--spec", spec.name],
            env={**os.environ, "DATABASE_URL": url},
            cwd=Path(__file__).resolve().parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None  # noqa: S101 -- asked for
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{phase} failed: {output}")
    return _Run(json.loads(output.strip().splitlines()[-1]), took, _megabytes(usage))


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


@app.command()
def growth(
    small: Annotated[int, typer.Option(help="Rows of the small table.")] = 1_000_000,
    large: Annotated[int, typer.Option(help="Rows of the large table.")] = 8_000_000,
    rounds: RoundsOption = 2,
) -> None:
    """Compare rates and memory of backfill and verify on a small and on a large table."""
    found: dict[tuple[int, Phase], list[_Run]] = defaultdict(list)
    with server.embedded() as running:
        for rows in (small, large):
            _say(f"creating {rows:,} rows")
            server.create_source(running, f"rows_{rows}", rows)
        for number in range(rounds):
            for rows in (small, large):
                with server.fresh_copy(running, f"rows_{rows}") as url:
                    contenders.run_phases(url, Phase.PREPARE, Phase.SYNC)
                    for phase in (Phase.BACKFILL, Phase.VERIFY):
                        run = _command(url, phase)
                        found[rows, phase].append(run)
                        _say(
                            f"round {number + 1}: {rows:,} rows, {phase}: {run.seconds:.2f} s,"
                            f" {run.outcome['rows_per_second']:,.0f} rows/s,"
                            f" {run.megabytes:.0f} MB"
                        )
        lines: list[list[str]] = []
        for phase in (Phase.BACKFILL, Phase.VERIFY):
            # Verification reads the rows of both tables.
            tables = 2 if phase is Phase.VERIFY else 1
            rates = {
                rows: tables * rows / statistics.median(_seconds(found[rows, phase]))
                for rows in (small, large)
            }
            ratio = rates[large] / rates[small]
            lines.append(
                [
                    phase.value,
                    *(f"{rates[rows]:,.0f}" for rows in (small, large)),
                    f"{ratio:.2f}",
                    f"0.90 {_verdict(ratio, 0.9)}",
                    *(
                        f"{max(run.megabytes for run in found[rows, phase]):.0f} MB"
                        for rows in (small, large)
                    ),
                ]
            )
        sizes = [f"{small:,} rows", f"{large:,} rows"]
        _table(
            "Growth",
            ["phase", *(f"rows/s at {size}" for size in sizes), "ratio", "wanted"]
            + [f"client's memory at {size}" for size in sizes],
            lines,
            [
                "Rates of the phase's own work, by its own clock; verify's count the rows of both"
                f" tables. {server.machine(running)}."
            ],
        )


def _seconds(runs: list[_Run]) -> list[float]:
    return [run.outcome["seconds"] for run in runs]


@app.command()
def writers(
    rows: RowsOption = 2_000_000,
    seconds: SecondsOption = 20,
    rounds: RoundsOption = 1,
    reader: Annotated[float, typer.Option(help="Seconds that the second run's reader reads.")] = 30,
) -> None:
    """Run pgbench's writers through all phases: their throughput, and the cutover's stall."""
    with server.embedded() as running:
        _say(f"creating {rows:,} rows")
        server.create_source(running, SOURCE, rows, foreign_keys=True)
        lines: list[list[str]] = []
        for _ in range(rounds):
            for reads in (0.0, reader):
                with server.fresh_copy(running, SOURCE) as url:
                    lines.append(_writers_run(url, seconds, reads))
        _table(
            "Writers during the whole run",
            [
                *("reader", "writes/s before", "logged (sync)", "during backfill"),
                *("mirrored (verified)", "worst of synced / before", "wanted 0.70"),
                *(
                    "longest write before",
                    "in cutover",
                    "wanted < 100 ms",
                    "after cutover writes/s",
                ),
            ],
            lines,
            [
                f"{pgbench.CLIENTS} clients: 80 % insert, 15 % update, 5 % delete, with both"
                f" foreign keys. {rows:,} rows, {server.machine(running)}."
            ],
        )


def _writers_run(url: str, seconds: float, reads: float) -> list[str]:
    """Drive all phases under writers; return the line of the table."""
    moments: dict[str, tuple[float, float]] = {}

    def during(name: str, work: Callable[[], object]) -> None:
        began = time.time()
        work()
        moments[name] = (began, time.time())
        _say(f"{name}: {moments[name][1] - began:.1f} s")

    def rest() -> None:
        time.sleep(seconds)

    with pgbench.writers(url) as running:
        time.sleep(3)
        during("before", rest)
        contenders.run_phases(url, Phase.PREPARE, Phase.SYNC)
        during("logged", rest)
        during("backfill", lambda: contenders.run_phases(url, Phase.BACKFILL))
        during("verify", lambda: contenders.run_phases(url, Phase.VERIFY))
        during("mirrored", rest)
        running.check()
        with pgbench.reader(url, reads):
            during("cutover", lambda: contenders.run_phases(url, Phase.CUTOVER))
        during("after", rest)
    writes = running.writes
    rates = {name: pgbench.rate(writes, *moment) for name, moment in moments.items()}
    share = min(rates["logged"], rates["mirrored"]) / rates["before"]
    stall = pgbench.longest(writes, *moments["cutover"])
    # The reverse side agrees too: verification after cutover compares the retired table.
    contenders.run_phases(url, Phase.VERIFY)
    return [
        f"{reads:.0f} s" if reads else "none",
        *(f"{rates[name]:,.0f}" for name in ("before", "logged", "backfill", "mirrored")),
        f"{share:.2f}",
        _verdict(share, 0.7),
        f"{pgbench.longest(writes, *moments['before']) * 1000:.0f} ms",
        f"{stall * 1000:.0f} ms",
        _verdict(0.1, stall),
        f"{rates['after']:,.0f}",
    ]


@app.command()
def rates(
    rows: RowsOption = 2_000_000,
    seconds: SecondsOption = 5,
    rounds: RoundsOption = 12,
) -> None:
    """Run pgbench's writers in turns on a plain table, a logged and a mirrored one.

    What the machine does meanwhile, which changes rates by half from minute to minute, meets all.
    """
    found: dict[str, list[float]] = {"plain": [], "logged": [], "mirrored": []}
    with server.embedded() as running, ExitStack() as stack:
        _say(f"creating {rows:,} rows")
        server.create_source(running, SOURCE, rows, foreign_keys=True)
        urls = {
            name: stack.enter_context(server.fresh_copy(running, SOURCE, name)) for name in found
        }
        contenders.run_phases(urls["logged"], Phase.PREPARE, Phase.SYNC)
        contenders.run_phases(
            urls["mirrored"], Phase.PREPARE, Phase.SYNC, Phase.BACKFILL, Phase.VERIFY
        )
        for number in range(rounds):
            for name in list(found)[:: -1 if number % 2 else 1]:
                with pgbench.writers(urls[name]) as writing:
                    time.sleep(1)
                    began = time.time()
                    time.sleep(seconds)
                    ended = time.time()
                found[name].append(pgbench.rate(writing.writes, began, ended))
            _say(f"{number + 1}: " + ", ".join(f"{n} {r[-1]:,.0f}" for n, r in found.items()))
        machine = server.machine(running)
    plain = found["plain"]
    shares = {
        name: [rate / other for rate, other in zip(measured, plain, strict=True)]
        for name, measured in found.items()
    }
    _table(
        "Writers in turns",
        ["table", "writes/s, median", "of plain in the same turn, median", "quartiles", "wanted"],
        [
            [
                name,
                f"{statistics.median(measured):,.0f}",
                f"{statistics.median(shares[name]):.2f}",
                " to ".join(f"{value:.2f}" for value in statistics.quantiles(shares[name])[::2]),
                "" if name == "plain" else _verdict(statistics.median(shares[name]), 0.7),
            ]
            for name, measured in found.items()
        ],
        [f"{rounds} turns of {seconds} s each, {rows:,} rows, {machine}."],
    )


@app.command(name="all")
def everything(rounds: RoundsOption = 3) -> None:
    """Run all of them, one after the other: half an hour."""
    backfill(rounds=rounds)
    partman(rounds=rounds)
    writers()
    rates()
    growth()


if __name__ == "__main__":
    app(prog_name="python -m bench.partitioning")
