"""Command line of `python -m alerts`."""

from __future__ import annotations

import sys

import typer

from alerts.receiver import ReceiverError
from alerts.receiver_settings import (
    SettingsError,
    describe_receiver_settings,
    load_receiver_settings,
)

application = typer.Typer(
    help="Alerts of the platform: rules, routing, a receiver, and drills.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@application.callback()
def _application() -> None:  # pyright: ignore[reportUnusedFunction]
    """Alerts of the platform: rules, routing, a receiver, and drills."""


@application.command(epilog="\b\nEnvironment variables:\n" + describe_receiver_settings())
def receiver() -> None:
    """Take alerts from Alertmanager's webhook, print and keep them, until SIGTERM."""
    from alerts import receiver as program

    program.run(load_receiver_settings())


def main() -> None:
    """Run the command line; 1 if refused, with one message, 2 on wrong usage."""
    try:
        application(prog_name="python -m alerts")
    except (SettingsError, ReceiverError) as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
