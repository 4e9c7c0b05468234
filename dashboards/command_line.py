"""Command line of `python -m dashboards`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from dashboards.catalogue import aws_dashboards, dashboards, to_json
from dashboards.queries import VARIABLES, queries

application = typer.Typer(
    help="Grafana dashboards of the platform, built in code.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@application.command()
def render(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Directory to write `<uid>.json` files to; else to stdout."
        ),
    ] = None,
    aws: Annotated[
        bool, typer.Option("--aws", help="Also those that only stacks on AWS have.")
    ] = False,
) -> None:
    """Write the dashboards as JSON, as Grafana imports them or is provisioned with them."""
    chosen = [*dashboards(), *(aws_dashboards() if aws else [])]
    if output is None:
        for dashboard in chosen:
            typer.echo(to_json(dashboard))
        return
    output.mkdir(parents=True, exist_ok=True)
    for dashboard in chosen:
        path = output / f"{dashboard.uid}.json"
        path.write_text(to_json(dashboard) + "\n", encoding="utf-8")
        typer.echo(path)


@application.command("queries")
def list_queries(
    rate_interval: Annotated[
        str, typer.Option(help="What $__rate_interval stands for.")
    ] = VARIABLES["__rate_interval"],
) -> None:
    """List the panels' queries, variables replaced, as lines of JSON: to try them by hand."""
    for dashboard in dashboards():
        for panel, expression in queries(dashboard, {"__rate_interval": rate_interval}):
            line = {"dashboard": dashboard.uid, "panel": panel, "query": expression}
            typer.echo(json.dumps(line, ensure_ascii=False))


def main() -> None:
    """Run the command line; 1 if it fails, with one message, 2 on wrong usage."""
    try:
        application(prog_name="python -m dashboards")
    except OSError as error:
        typer.echo(f"--output: {error}", err=True)
        sys.exit(1)
