"""Command line: `python -m workers fsrs-optimization|complexity|scheduler|exporter`.

The programs are imported when called, so that each loads only what it needs.
"""

from __future__ import annotations

import sys

import typer

from workers import settings

app = typer.Typer(
    help="Queue workers, scheduler and metrics exporter. Settings come from the environment.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _epilog(kind: type[settings.Settings]) -> str:
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


def main() -> None:
    """Run the command line; 1 if refused, with one message, 2 on wrong usage."""
    from workers.service import ServiceError

    try:
        app(prog_name="python -m workers")
    except (settings.SettingsError, ServiceError) as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
