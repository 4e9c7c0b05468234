"""Command line: `python -m migrations upgrade|status|sql|roles`; there is no downgrade."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from migrations import roles as roles_of_database
from migrations import schema, typeorm
from migrations.database import DatabaseError, database_url
from migrations.locks import LockPolicy

app = typer.Typer(
    help=(
        "Bring the application's database to the newest schema revision, or see what that would do."
        " Revisions roll forward only."
    ),
    epilog=(
        "The connection is taken from DATABASE_URL, a postgresql:// URL. Online partitioning has a"
        " command line of its own: python -m migrations.partition."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

To = Annotated[
    str, typer.Option("--to", metavar="REVISION", help="Last revision to take; `head` is all.")
]
LockTimeout = Annotated[
    int,
    typer.Option(
        "--lock-timeout",
        metavar="MS",
        min=1,
        max=60_000,
        help="Milliseconds to wait for a lock in one attempt; others wait as long behind it.",
    ),
]
Attempts = Annotated[
    int, typer.Option("--attempts", metavar="N", min=1, help="Attempts at getting the locks.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object, the last line.")
]


@app.command()
def upgrade(
    to: To = "head",
    lock_timeout: LockTimeout = LockPolicy.timeout,
    attempts: Attempts = LockPolicy.attempts,
    as_json: Json = False,
) -> None:
    """Apply the revisions the database does not have yet; harmless to run again.

    Creates the application's tables where they are missing and adopts them where they exist. Each
    revision has a transaction of its own and waits for locks only briefly, so that the application
    works on meanwhile. Progress is shown on standard error.
    """
    policy = LockPolicy(lock_timeout, attempts)
    try:
        result = schema.upgrade(database_url(), to, policy, _show)
    except schema.UnknownRevisionError as error:
        raise typer.BadParameter(str(error), param_hint="--to") from None
    typer.echo(json.dumps(asdict(result)) if as_json else f"{result.message} ({result.seconds} s)")


@app.command()
def status(as_json: Json = False) -> None:
    """Show the revision the database is at, the newest, and those in between; changes nothing."""
    found = schema.status(database_url())
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    typer.echo(f"current: {found.current or 'none, never upgraded'}")
    typer.echo(f"head:    {found.head}")
    typer.echo(f"pending: {len(found.pending) or 'none'}")
    for revision in found.pending:
        typer.echo(f"  {revision.id}  {revision.doc}")


class Format(StrEnum):
    """How revisions are written out."""

    SQL = "sql"
    TYPEORM = "typeorm"


@app.command()
def sql(
    to: To = "head",
    form: Annotated[
        Format,
        typer.Option(
            "--format", help="`sql` is for psql, `typeorm` are TypeORM migrations in TypeScript."
        ),
    ] = Format.SQL,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            file_okay=False,
            help="With --format typeorm: write a file for each migration, instead of printing.",
        ),
    ] = None,
) -> None:
    """Print the SQL of all revisions; needs no database. Run it with psql -v ON_ERROR_STOP=1.

    With --format typeorm: as migrations for `typeorm migration:run --transaction each`. They adopt
    existing tables as `upgrade` does, and `upgrade` adopts what they made.
    """
    if output is not None and form is not Format.TYPEORM:
        raise typer.BadParameter("goes with --format typeorm", param_hint="--output")
    try:
        if form is Format.SQL:
            typer.echo(schema.sql(to), nl=False)
        else:
            _write_typeorm(typeorm.migrations(to), output)
    except schema.UnknownRevisionError as error:
        raise typer.BadParameter(str(error), param_hint="--to") from None


def _write_typeorm(found: list[typeorm.Migration], output: Path | None) -> None:
    if output is None:
        typer.echo(typeorm.module(found), nl=False)
        return
    new = typeorm.write(found, output)
    for migration in found:
        path = output / migration.file_name
        typer.echo(f"{path}: {'written' if path in new else 'there already, the same'}")


@app.command()
def roles(
    steps: Annotated[
        str, typer.Option("--steps", metavar="ROLE", help="Role of the database steps.")
    ] = roles_of_database.STEPS,
    workers: Annotated[
        str, typer.Option("--workers", metavar="ROLE", help="Role of the workers.")
    ] = roles_of_database.WORKERS,
    iam: Annotated[
        roles_of_database.Iam,
        typer.Option("--iam", help="`required` refuses a server where roles cannot log in by IAM."),
    ] = "auto",
    lock_timeout: LockTimeout = LockPolicy.timeout,
    attempts: Attempts = LockPolicy.attempts,
    as_sql: Annotated[
        bool, typer.Option("--sql", help="Print what would be run, and run nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the roles that database steps and workers log in as; harmless to run again.

    For the server's administrator, whose log-in is in the secret that DATABASE_MASTER_SECRET_ARN
    names, or in DATABASE_URL. The steps' role gets the database and the schema, the workers' role
    only the way in: for the rest run `python -m workers install` as the steps' role, after
    `upgrade`.
    """
    try:
        wanted = roles_of_database.Roles(steps, workers, iam)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--steps, --workers") from None
    if as_sql:
        typer.echo(f"BEGIN;\n{roles_of_database.roles_sql(wanted, lock_timeout)}\nCOMMIT;")
        return
    policy = LockPolicy(lock_timeout, attempts)
    result = roles_of_database.make_roles(database_url(), wanted, policy, _show)
    typer.echo(json.dumps(asdict(result)) if as_json else result.message)


def main() -> None:
    """Run the command line; 1 if refused or failed, with one message, 2 on wrong usage."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(prog_name="python -m migrations")
    except (
        DatabaseError,
        schema.SchemaError,
        typeorm.OutputError,
        roles_of_database.RolesError,
    ) as error:
        _show(str(error))
        sys.exit(1)
    except _TerminatedError:
        _show("terminated: the revision in progress was rolled back; run the upgrade again")
        sys.exit(1)


def _show(line: str) -> None:
    typer.echo(line, err=True)


class _TerminatedError(BaseException):
    """SIGTERM came; no error handler on the way may stop it."""


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _TerminatedError
