"""Command line of `python -m alerts`."""

from __future__ import annotations

import asyncio
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from alerts.check import check as check_everything
from alerts.configuration import AlertmanagerSettings
from alerts.environment import SettingsError, describe, load
from alerts.monitoring import MonitoringError
from alerts.programs import ProgramError
from alerts.receiver import ReceiverError
from alerts.receiver import run as run_receiver
from alerts.render import default_prometheus_settings, write
from alerts.settings import DrillSettings, ReceiverSettings

application = typer.Typer(
    help="Alerts of the platform: rules, routing, a receiver, and drills.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class DrillName(StrEnum):
    """The drills there are."""

    QUEUE_GROWTH = "queue-growth"
    JOB_FAILURES = "job-failures"


@application.command()
def check() -> None:
    """Check the rules, their unit tests and the configurations with promtool and amtool."""
    for output in check_everything():
        typer.echo(output)


@application.command()
def render(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write to.")],
    webhook_url_file: Annotated[
        Path, typer.Option(help="File with the URL that alerts are posted to.")
    ] = Path("webhook.url"),
    heartbeat_url_file: Annotated[
        Path | None, typer.Option(help="File with the URL of a dead man's switch.")
    ] = None,
) -> None:
    """Write prometheus.yml, alertmanager.yml and the rules, for programs on their default ports."""
    try:
        paths = write(
            output,
            default_prometheus_settings(),
            AlertmanagerSettings(webhook_url_file, heartbeat_url_file=heartbeat_url_file),
        )
    except OSError as error:
        raise SettingsError(f"--output {output}: {error.strerror or error}") from None
    for path in paths:
        typer.echo(path)


@application.command(epilog="\b\nEnvironment variables:\n" + describe(ReceiverSettings))
def receiver() -> None:
    """Take alerts from Alertmanager's webhook, print and keep them, until SIGTERM."""
    run_receiver(load(ReceiverSettings))


@application.command(epilog="\b\nEnvironment variables:\n" + describe(DrillSettings))
def drill(
    name: Annotated[DrillName | None, typer.Argument(help="What to provoke.")] = None,
    timeout_minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="How long to wait; by default twice what it should take."),
    ] = None,
    until_resolved: Annotated[
        bool, typer.Option("--until-resolved", help="Also wait until the alert is over.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Only remove what a killed drill left behind.")
    ] = False,
) -> None:
    """Provoke a real failure on a running stack and wait for its alert in Alertmanager.

    queue-growth takes about 17 minutes, job-failures about 6: the rules wait that long before they
    fire. The jobs a drill adds are removed at its end, and at Ctrl-C. `make -s env` prints the
    variables of the local stack.
    """
    from alerts import drill as drills

    if name is None and not clean:
        raise typer.BadParameter(f"name one of {', '.join(DrillName)}, or --clean")
    settings = load(DrillSettings)
    if clean or name is None:
        typer.echo(f"removed {asyncio.run(drills.remove_jobs(settings))} jobs")
        return
    chosen = drills.DRILLS[name.value]
    minutes = timeout_minutes if timeout_minutes is not None else 2 * chosen.minutes
    # As Ctrl-C does, so that the jobs are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(
            drills.run(
                chosen,
                settings,
                timeout_seconds=minutes * 60,
                until_resolved=until_resolved,
                say=lambda line: print(line, flush=True),
            )
        )
    except KeyboardInterrupt:
        raise drills.DrillError("interrupted") from None


def main() -> None:
    """Run the command line; 1 if refused or failed, with one message, 2 on wrong usage."""
    from alerts.drill import DrillError

    try:
        application(prog_name="python -m alerts")
    except (SettingsError, ReceiverError, ProgramError, MonitoringError, DrillError) as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
