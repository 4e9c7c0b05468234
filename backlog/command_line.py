"""Command line of `python -m backlog`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from backlog.items import DIRECTORY, ItemError, read_items

application = typer.Typer(
    help="The research backlog: what we want to find out, and how we would know.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Directory = Annotated[Path, typer.Option("--directory", "-d", help="Where the items lie.")]


@application.command("list")
def list_items(directory: Directory = DIRECTORY) -> None:
    """List the items."""
    rows = [(each.identifier, each.area, each.status, each.title) for each in read_items(directory)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


@application.command()
def show(
    item: Annotated[str, typer.Argument(help="The item's name, as `list` prints it.")],
    directory: Directory = DIRECTORY,
) -> None:
    """Show one item."""
    found = {each.identifier: each for each in read_items(directory)}
    if item not in found:
        raise ItemError(f"{item}: no such item; there are {', '.join(found)}")
    body = found[item].path.read_text(encoding="utf-8").split("---\n", 2)[2]
    Console().print(Markdown(body))


@application.command()
def check(directory: Directory = DIRECTORY) -> None:
    """Check that every item has its head and all its sections."""
    typer.echo(f"{len(read_items(directory))} items are complete")


def main() -> None:
    """Run the command line; 1 if an item is wrong, with a line a problem, 2 on wrong usage."""
    try:
        application(prog_name="python -m backlog")
    except ItemError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
