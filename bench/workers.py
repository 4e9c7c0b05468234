"""The workers against their peers: `python -m bench.workers`, or one of its parts.

Every number is a ratio of one run, contenders in turn. A machine that does something else meanwhile
spoils them; what was measured where is in bench/README.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / ".local" / "bench-fsrs"

app = typer.Typer(help=__doc__, add_completion=False, rich_markup_mode=None)


def _say(name: str, ratio: float, wanted: str, details: str) -> None:
    print(f"{name}: {ratio:.2f} (wanted {wanted}); {details}", flush=True)


def _reference_python() -> str:
    """Return the interpreter that has the group `bench-fsrs`, installed at the first use."""
    python = REFERENCE / "bin" / "python"
    if not python.exists():
        print("installing fsrs-optimizer and PyTorch, some gigabytes, once", file=sys.stderr)
        environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(REFERENCE)}
        uv = ROOT / ".tools" / "uv" / "bin" / "uv"
        command = [str(uv) if uv.exists() else "uv", "sync", "--frozen", "--only-group"]
        subprocess.run([*command, "bench-fsrs"], cwd=ROOT, env=environment, check=True)
    return str(python)


@app.command("fsrs")
def fsrs_command(
    learners: Annotated[int, typer.Option(help="Actors with 5,000 reviews each.")] = 8,
    python: Annotated[
        str | None, typer.Option(help="An interpreter that has fsrs-optimizer.")
    ] = None,
) -> None:
    """Train the same learners with ours and with fsrs-optimizer."""
    from bench.fsrs import against_reference

    found = against_reference(python or _reference_python(), learners)
    _say(
        "FSRS, training, against fsrs-optimizer",
        found.train_ratio,
        "at least 20",
        f"{found.train_seconds * 1000:.1f} ms, reference {found.reference_train_seconds:.2f} s",
    )
    _say(
        "FSRS, the whole job's computation (three trainings, evaluations), against the same",
        found.whole_ratio,
        "at least 20",
        f"{found.optimize_seconds * 1000:.1f} ms, reference {found.reference_whole_seconds:.2f} s",
    )
    print(f"log-loss: {found.excess_loss:+.2%} of the reference's (wanted at most +0.5 %)")


@app.command("end-to-end")
def end_to_end_command(
    actors: Annotated[int, typer.Option(help="Actors.")] = 200,
    reviews: Annotated[int, typer.Option(help="Reviews of all of them.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="Rounds; the median counts.")] = 3,
) -> None:
    """Compare jobs through queue and database with training alone, both on all cores."""
    from bench.fsrs import end_to_end

    found = end_to_end(actors, reviews, rounds)
    _say(
        "FSRS, end to end against training alone",
        found.ratio,
        "at least 0.85",
        f"{found.actors} actors, {found.reviews:,} reviews: {found.end_to_end_seconds:.2f} s, "
        f"alone {found.alone_seconds:.2f} s",
    )


@app.command("no-op")
def no_op_command(
    jobs: Annotated[int, typer.Option(help="Jobs for each contender and round.")] = 20_000,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 5,
) -> None:
    """Compare no-op jobs a second with the stock Python worker, and show npm's Node worker."""
    from bench.jobs import no_op, ratio

    found = no_op(jobs, rounds)
    _say("No-op jobs, 2 processes against stock, medians", ratio(found), "at least 2", "")
    for name, rates in found.items():
        print(f"  {name}: " + ", ".join(f"{rate:,.0f}" for rate in rates) + " jobs/s")


@app.command("scrape")
def scrape_command(
    queues: Annotated[int, typer.Option(help="Queues, each with waiting and delayed jobs.")] = 100,
    scrapes: Annotated[int, typer.Option(help="Scrapes.")] = 2000,
) -> None:
    """Time scrapes of many queues, and count their round trips to Valkey."""
    from bench.exporter import scrape

    found = scrape(queues, scrapes)
    print(
        f"Scrape of {queues} queues: p99 {found.p99:.1f} ms over HTTP (wanted under 10), "
        f"median {found.median:.1f} ms; of it Valkey p99 {found.valkey_p99:.1f} ms, "
        f"median {found.valkey_median:.1f} ms; {found.round_trips:g} round trip, "
        f"commands {found.commands}"
    )


@app.command("growth")
def growth_command(
    sizes: Annotated[list[int] | None, typer.Argument(help="Reviews in the table.")] = None,
    reviews_an_actor: Annotated[int, typer.Option(help="Reviews of each actor.")] = 5000,
) -> None:
    """Optimize every actor of ever larger tables: time a review, and memory."""
    from bench.fsrs import growth

    found = growth(sizes or [500_000, 1_000_000, 2_000_000, 4_000_000], reviews_an_actor)
    for size in found:
        print(
            f"  {size.reviews:,} reviews: {size.microseconds_a_review:.2f} µs a review, "
            f"peak {size.peak_megabytes:.0f} MB a process"
        )
    _say(
        "FSRS growth, time a review of the largest against the smallest",
        found[-1].microseconds_a_review / found[0].microseconds_a_review,
        "at most 1.15",
        f"peak memory {found[-1].peak_megabytes / found[0].peak_megabytes:.2f} times",
    )


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Run every part if none is named."""
    if context.invoked_subcommand is not None:
        return
    fsrs_command(8, None)
    end_to_end_command(200, 1_000_000, 3)
    no_op_command(20_000, 5)
    scrape_command(100, 2000)
    growth_command(None, 5000)
    subprocess.run([sys.executable, "-m", "bench.complexity"], cwd=ROOT, check=True)


if __name__ == "__main__":
    app()
