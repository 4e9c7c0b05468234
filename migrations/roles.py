"""The roles that the database steps and the workers log in as, made by the administrator.

The steps' role owns the schema, or acts as the application's role where that does. The workers'
role owns nothing: what it may do to which table is given by the owner, by
`python -m workers install`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import errors, sql

from connections.authentication import AuthenticationError, require
from connections.master import MasterSecretError, master_login
from migrations.database import VARIABLE, DatabaseError, connect
from migrations.locks import LockPolicy, LockUnavailableError, with_retries
from migrations.statements import VERSION_SCHEMA, template

STEPS = "learning_platform_steps"
WORKERS = "learning_platform_workers"

APPLICATION_TABLES = ("actors", "flashcards", "review_logs", "nodes", "edges")
OWN_SCHEMAS = (VERSION_SCHEMA, "partitioning", "workers")

_LONGEST_NAME = 63

Progress = Callable[[str], None]
Iam = Literal["auto", "required"]


class RolesError(Exception):
    """The roles were refused or could not be made; nothing was changed."""


@dataclass(frozen=True)
class Roles:
    """The names of the two roles, and whether they must log in by IAM."""

    steps: str = STEPS
    workers: str = WORKERS
    iam: Iam = "auto"

    def __post_init__(self) -> None:
        for name in (self.steps, self.workers):
            if not 0 < len(name.encode()) <= _LONGEST_NAME or name.startswith("pg_"):
                raise ValueError(f"{name!r} is no name for a role")
        if self.steps == self.workers:
            raise ValueError("the steps and the workers take a role each")


@dataclass(frozen=True)
class RolesResult:
    """What was done; `outcome` is "changed", or "current" if there was nothing to do."""

    outcome: str
    steps: str
    workers: str
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    message: str


def roles_sql(roles: Roles, lock_timeout: int = LockPolicy.timeout) -> str:
    """Return what makes the roles; for one transaction. `lock_timeout` is in milliseconds."""
    return template(
        "roles",
        lock_timeout=sql.Literal(f"{lock_timeout}ms"),
        steps=sql.Literal(roles.steps),
        workers=sql.Literal(roles.workers),
        iam_is_required=sql.Literal(roles.iam == "required"),
        application_tables=sql.Literal(list(APPLICATION_TABLES)),
        own_schemas=sql.Literal(list(OWN_SCHEMAS)),
    )


def make_roles(
    url: str,
    roles: Roles,
    policy: LockPolicy | None = None,
    progress: Progress = lambda _line: None,
) -> RolesResult:
    """Make the roles in the database of `url`; `progress` gets a line for each change and note.

    It logs in by the secret of `DATABASE_MASTER_SECRET_ARN` if that is set, else by the role and
    password of `url`. Raises DatabaseError if there is no getting in, RolesError if it is refused.
    """
    policy = policy or LockPolicy()
    changes: list[str] = []
    notes: list[str] = []

    def tell(diagnostic: errors.Diagnostic) -> None:
        text = diagnostic.message_primary or ""
        if diagnostic.severity_nonlocalized == "WARNING":
            notes.append(text)
            progress(f"note: {text}")
        else:
            changes.append(text)
            progress(text)

    script = roles_sql(roles, policy.timeout).encode()
    with _connect(url) as connection:
        connection.add_notice_handler(tell)

        def attempt() -> None:
            changes.clear()
            notes.clear()
            with connection.transaction():
                connection.execute(script)

        try:
            with_retries(policy, attempt, lambda: "somebody works on a table", progress)
        except LockUnavailableError as error:
            raise RolesError(f"nothing was changed: {error}") from None
        except psycopg.Error as error:
            # The primary message names objects; details and context may hold values.
            reason = error.diag.message_primary or " ".join(str(error).split())
            raise RolesError(f"nothing was changed: {reason}") from None
    names = f"the roles {roles.steps} and {roles.workers}"
    message = f"made {names}, {len(changes)} changes" if changes else f"nothing to do for {names}"
    outcome = "changed" if changes else "current"
    return RolesResult(outcome, roles.steps, roles.workers, tuple(changes), tuple(notes), message)


def _connect(url: str) -> psycopg.Connection:
    try:
        # The same server, verified just so, whoever logs in.
        require(url, VARIABLE)
        login = master_login()
    except (AuthenticationError, MasterSecretError) as error:
        raise DatabaseError(str(error)) from None
    return connect(url, "migrations roles", login=login)
