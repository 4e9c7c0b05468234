"""How long `pulumi preview` of a whole stack takes, against an empty program with the same SDKs.

Both run in the real engine, with stand-ins for the providers (tests/stacks/stand_ins.py), in turn.
Run it alone on the machine: everything here is one process after another.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from tests.stacks.preview_time import compare

GOAL = 3.0

application = typer.Typer(add_completion=False)


@application.command()
def main(
    stack: Annotated[str, typer.Option(help="Which stack's settings: staging or prod.")] = "prod",
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each program.")] = 5,
) -> None:
    """Preview a stack, and empty programs, in turn; print a table in Markdown.

    Exits with 1 where the stack takes longer than three times its imports.
    """
    with tempfile.TemporaryDirectory() as directory:
        found = compare(Path(directory), stack, runs)
    imports = median(found.imports)
    typer.echo("| program | median, s | fastest, s | times the imports |")
    typer.echo("|---|---:|---:|---:|")
    for name, seconds in (
        (f"`{stack}`, whole", found.whole),
        ("empty, importing the modules that it uses", found.imports),
        ("empty, importing the packages alone", found.bare),
    ):
        middle = median(seconds)
        typer.echo(f"| {name} | {middle:.1f} | {min(seconds):.1f} | {middle / imports:.2f} |")
    if found.ratio >= GOAL:
        raise typer.Exit(1)


if __name__ == "__main__":
    application(prog_name="python -m bench.preview")
