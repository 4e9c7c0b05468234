"""What the workers need in the database, made by the owner of the tables for a role that is not.

Where the workers' own role owns the tables, as on a machine of one's own, they make all of this by
themselves when it is first needed, and there is nothing to install.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from workers.complexity_state import ensure_tables, ensure_tracking, find_sources
from workers.database import BOOKKEEPING_LOCK, Database, statement

PAUSE_SECONDS = 1.0


class InstallationError(Exception):
    """The installation was refused or failed; the message says why."""


@dataclass(frozen=True)
class Installed:
    """What is there now; `role` is who may use it, None where that is the owner alone."""

    outcome: str
    role: str | None
    message: str


def installation_sql(role: str | None) -> str:
    """Return what `install` runs, where nothing of it is there yet."""
    body = sql.Literal(statement("review_changes_function").as_string())
    parts: list[sql.Composable] = [
        statement("bookkeeping"),
        statement("complexity_tables"),
        statement("review_changes").format(body=body),
    ]
    if role is not None:
        parts.append(_privileges(role))
    return "\n".join(part.as_string().strip() + "\n" for part in parts)


def install(
    database: Database,
    role: str | None = None,
    attempts: int = 60,
    progress: Callable[[str], None] = lambda _line: None,
) -> Installed:
    """Create the schema `workers`, its tables and the trigger on the reviews; let `role` use them.

    Writers of reviews wait for the trigger for a fifth of a second at most; it is tried again
    `attempts` times. Harmless to run again. Raises InstallationError.
    """
    try:
        connection = database.connection()
        _require_ownership(connection)
        _track(connection, attempts, progress)
        if role is not None:
            with connection.transaction():
                # Two at once would meet in the catalogue.
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [BOOKKEEPING_LOCK])
                connection.execute(_privileges(role))
    except errors.UndefinedObject:
        raise InstallationError(
            f"there is no role {role}: run `python -m migrations roles` first"
        ) from None
    except psycopg.Error as error:
        reason = error.diag.message_primary or " ".join(str(error).split())
        raise InstallationError(reason) from None
    finally:
        database.discard()
    told = f", and what {role} may do with them" if role else ""
    return Installed("installed", role, f"the workers' tables and trigger are there{told}")


def _privileges(role: str) -> sql.Composed:
    return statement("privileges").format(role=sql.Identifier(role), role_name=sql.Literal(role))


def _require_ownership(connection: psycopg.Connection) -> None:
    row = connection.execute(
        "SELECT current_user, pg_get_userbyid(relowner), pg_has_role(relowner, 'USAGE')"
        " FROM pg_class WHERE oid = to_regclass('review_logs')"
    ).fetchone()
    if row is None:
        raise InstallationError("there is no table review_logs: run `python -m migrations upgrade`")
    role, owner, is_owner = row
    if not is_owner:
        raise InstallationError(
            f"role {role} does not own review_logs, {owner} does: connect as the owner"
        )


def _track(connection: psycopg.Connection, attempts: int, progress: Callable[[str], None]) -> None:
    ensure_tables(connection)
    for attempt in range(1, attempts + 1):
        ensure_tracking(connection)
        if not any(source.installable for source in find_sources(connection)):
            return
        progress(f"review_logs is busy: attempt {attempt} of {attempts} at its trigger failed")
        time.sleep(PAUSE_SECONDS)
    raise InstallationError(
        f"review_logs was busy in {attempts} attempts, its trigger was not created: try again later"
    )
