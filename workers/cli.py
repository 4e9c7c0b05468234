"""Command line: `python -m workers fsrs-optimization|complexity|scheduler|exporter|install`.

The programs are imported when called, so that each loads only what it needs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from workers import settings

app = typer.Typer(
    help="Queue workers, scheduler and metrics exporter. Settings come from the environment.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _epilog(kind: type[settings.DatabaseSettings]) -> str:
    return "\b\nEnvironment variables:\n" + settings.describe(kind)


@app.command(epilog=_epilog(settings.FsrsOptimizationSettings))
def fsrs_optimization() -> None:
    """Work on the queue fsrs-optimization: train actors' FSRS parameters on their reviews."""
    from workers import programs

    programs.fsrs_optimization(settings.load(settings.FsrsOptimizationSettings))


@app.command(epilog=_epilog(settings.ComplexitySettings))
def complexity() -> None:
    """Work on the queue complexity: compute the complexity of all nodes."""
    from workers import programs

    programs.complexity(settings.load(settings.ComplexitySettings))


@app.command(epilog=_epilog(settings.SchedulerSettings))
def scheduler() -> None:
    """Add the jobs: one per actor with enough new reviews, and the complexity by cron pattern."""
    from workers import scheduler as program

    program.run(settings.load(settings.SchedulerSettings))


@app.command(epilog=_epilog(settings.ExporterSettings))
def exporter() -> None:
    """Serve metrics of the queues, and of the partitioning of the database's tables."""
    from workers import exporter as program

    program.run(settings.load(settings.ExporterSettings))


@app.command(epilog=_epilog(settings.DatabaseSettings))
def install(
    role: Annotated[
        str | None,
        typer.Option("--role", help="Who the programs log in as, unless as the owner."),
    ] = None,
    attempts: Annotated[
        int, typer.Option("--attempts", metavar="N", min=1, help="Attempts at getting the lock.")
    ] = 60,
    as_sql: Annotated[
        bool, typer.Option("--sql", help="Print what would be run, and run nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object, the last line.")
    ] = False,
) -> None:
    """Make what the programs need in the database: for the owner of the tables.

    Creates the schema workers, its tables, and the trigger on review_logs, and gives a role that
    owns none of these what the programs need of them. Run it after `python -m migrations upgrade`,
    and again with each new version. Harmless to run again.
    """
    from workers import installation
    from workers.database import Database

    if as_sql:
        typer.echo(installation.installation_sql(role), nl=False)
        return
    url = settings.load(settings.DatabaseSettings).database_url.get_secret_value()
    database = Database(url, "workers install")
    try:
        result = installation.install(
            database, role, attempts, lambda line: typer.echo(line, err=True)
        )
    except installation.InstallationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(asdict(result)) if as_json else result.message)


def main() -> None:
    """Run the command line; 1 if refused, with one message, 2 on wrong usage."""
    from workers.service import ServiceError

    try:
        app(prog_name="python -m workers")
    except (settings.SettingsError, ServiceError) as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
