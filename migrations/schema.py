"""The schema's revisions: what they are, their SQL, and the upgrade to the newest.

There is no downgrade. Revisions only add, so that the application's version before and the one
after work with the same schema; what was wrong is corrected by a further revision.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
from alembic import command
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from psycopg import errors
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from migrations.database import connect
from migrations.locks import (
    LockPolicy,
    LockUnavailableError,
    describe,
    driver_error,
    find_holders,
    with_retries,
)
from migrations.statements import (
    VERSION_SCHEMA,
    expect_sql,
    template,
    timeouts_sql,
    version_schema_sql,
)

UPGRADE_LOCK = 7_305_112_011
"""Advisory lock of the session that upgrades; arbitrary, but the same for ever."""

APPLICATION_NAME = "migrations"

_HEAD = "head"

Progress = Callable[[str], None]


class SchemaError(Exception):
    """An upgrade was refused or failed; the message says why and what was changed."""


class UnknownRevisionError(SchemaError):
    """There is no such revision in `versions/`."""


@dataclass(frozen=True)
class Revision:
    """A revision and the first line of its docstring."""

    id: str
    doc: str


@dataclass(frozen=True)
class Status:
    """Where a database stands."""

    current: str | None
    """None before the first upgrade."""
    head: str
    pending: tuple[Revision, ...]


@dataclass(frozen=True)
class UpgradeResult:
    """What an upgrade did; `outcome` is "upgraded", or "current" if there was nothing to do."""

    outcome: str
    revision: str
    applied: tuple[str, ...]
    seconds: float
    message: str


def revisions() -> list[Revision]:
    """Return all revisions, the oldest first."""
    return [Revision(script.revision, script.doc) for script in _scripts(_configuration())]


def sql(to: str = _HEAD, lock_timeout: int = LockPolicy.timeout) -> str:
    """Return the SQL that takes an empty or adoptable database to revision `to`; needs no database.

    Run it with `psql -v ON_ERROR_STOP=1`. `lock_timeout` is in milliseconds.
    Raises UnknownRevisionError.
    """
    output = io.StringIO()
    configuration = _configuration(lock_timeout, output)
    target = _resolve(_scripts(configuration), to)
    command.upgrade(configuration, target, sql=True)
    return output.getvalue().strip() + "\n"


@dataclass(frozen=True)
class Statements:
    """What one revision executes, in a transaction of its own, without Alembic's bookkeeping."""

    name: str
    """Its file's, such as `0001_baseline`."""
    revision: Revision
    statements: tuple[str, ...]


def statements(to: str = _HEAD, lock_timeout: int = LockPolicy.timeout) -> list[Statements]:
    """Return what the revisions up to and including `to` execute; needs no database.

    `lock_timeout` is in milliseconds. Raises UnknownRevisionError.
    """
    scripts = _scripts(_configuration())
    count = _position(scripts, _resolve(scripts, to))
    return [_statements(script, lock_timeout) for script in scripts[:count]]


def _statements(script: Script, lock_timeout: int) -> Statements:
    written: list[str] = []

    class Output(io.StringIO):
        def write(self, text: str, /) -> int:
            written.append(text.strip())
            return len(text)

    context = MigrationContext.configure(
        dialect_name="postgresql",
        opts={"as_sql": True, "output_buffer": Output(), "lock_timeout": lock_timeout},
    )
    with Operations.context(context):
        script.module.upgrade()
    name = Path(script.path).stem
    return Statements(name, Revision(script.revision, script.doc), tuple(written))


def status(connection_url: str) -> Status:
    """Return where the database stands; changes nothing.

    Raises DatabaseError if it is not to be reached, SchemaError if it is at a revision that is
    not ours.
    """
    scripts = _scripts(_configuration())
    with _connection(connection_url) as connection:
        current = _current(connection)
    done = _position(scripts, current)
    pending = tuple(Revision(script.revision, script.doc) for script in scripts[done:])
    return Status(current, scripts[-1].revision, pending)


def upgrade(
    connection_url: str,
    to: str = _HEAD,
    policy: LockPolicy | None = None,
    progress: Progress = lambda _line: None,
) -> UpgradeResult:
    """Apply the revisions up to and including `to` that the database does not have yet.

    Each is applied in a transaction of its own, with a short wait for its locks; where they are
    not to be had it is tried again. Two upgrades at once queue. Before the first revision changes
    anything, the existing tables are checked against all of them. `progress` gets lines to show.

    Raises DatabaseError if the database is not to be reached, UnknownRevisionError, and SchemaError
    if the upgrade is refused or fails; revisions that were applied before stay.
    """
    started = time.monotonic()
    policy = policy or LockPolicy()
    configuration = _configuration(policy.timeout)
    scripts = _scripts(configuration)
    target = _resolve(scripts, to)
    with _connection(connection_url) as connection, _upgrade_lock(connection, policy, progress):
        current = _current(connection)
        pending = scripts[_position(scripts, current) : _position(scripts, target)]
        if not pending:
            state = f"the schema is at revision {current}"
            message = state if current == target else f"{state}, which includes {target}"
            return UpgradeResult("current", current or target, (), _since(started), message)
        _check(connection, pending)
        _ensure_version_schema(connection)
        configuration.attributes["connection"] = connection
        for number, script in enumerate(pending, 1):
            progress(f"[{number}/{len(pending)}] {script.revision}: {script.doc}")
            _apply(connection, configuration, script, policy, progress)
    applied = tuple(script.revision for script in pending)
    message = f"upgraded the schema from {current or 'nothing'} to {target}: {', '.join(applied)}"
    return UpgradeResult("upgraded", target, applied, _since(started), message)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _configuration(
    lock_timeout: int = LockPolicy.timeout, output: io.StringIO | None = None
) -> Config:
    configuration = Config(output_buffer=output or io.StringIO())
    # Alembic's settings are an INI file's, in which a percent sign stands for a reference.
    location = str(Path(__file__).parent).replace("%", "%%")
    configuration.set_main_option("script_location", location)
    configuration.attributes["lock_timeout"] = lock_timeout
    return configuration


def _scripts(configuration: Config) -> list[Script]:
    directory = ScriptDirectory.from_config(configuration)
    return list(directory.walk_revisions())[::-1]


def _resolve(scripts: list[Script], to: str) -> str:
    known = [script.revision for script in scripts]
    if to == _HEAD:
        return known[-1]
    if to not in known:
        raise UnknownRevisionError(f"no revision {to!r}; there are {', '.join(known)}, and {_HEAD}")
    return to


def _position(scripts: list[Script], revision: str | None) -> int:
    """Return how many revisions a database at `revision` has."""
    if revision is None:
        return 0
    known = [script.revision for script in scripts]
    if revision not in known:
        raise SchemaError(
            f"the database is at revision {revision}, which is unknown here (newest: {known[-1]}): "
            "it was upgraded by a newer version of this project; use that one"
        )
    return known.index(revision) + 1


@contextmanager
def _connection(url: str) -> Generator[Connection]:
    # The URL is libpq's to read, all its parameters included; SQLAlchemy gets a connection.
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(url, APPLICATION_NAME, autocommit=False),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            yield connection
    except (DBAPIError, psycopg.Error) as error:
        raise SchemaError(_explain(error)) from None
    finally:
        engine.dispose()


def _driver(connection: Connection) -> psycopg.Connection:
    return cast("psycopg.Connection", connection.connection.driver_connection)


def _explain(error: DBAPIError | psycopg.Error) -> str:
    original = driver_error(error)
    if original is None:
        return str(error)
    # The primary message names objects; details and context may hold values.
    return original.diag.message_primary or " ".join(str(original).split())


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": VERSION_SCHEMA})
    try:
        current = context.get_current_revision()
    except CommandError as error:
        raise SchemaError(str(error)) from None
    connection.rollback()
    return current


@contextmanager
def _upgrade_lock(
    connection: Connection, policy: LockPolicy, progress: Progress
) -> Generator[None]:
    """Hold the lock that makes a second upgrade wait; it is the session's, and ends with it."""
    driver = _driver(connection)

    def take() -> None:
        with driver.transaction():
            driver.execute(timeouts_sql(policy.timeout).encode())
            driver.execute("SELECT pg_advisory_lock(%s)", [UPGRADE_LOCK])

    def holders() -> str:
        return _holders(driver, "upgrade_lock_holders", {"key": UPGRADE_LOCK})

    try:
        with_retries(policy, take, holders, progress)
    except LockUnavailableError as error:
        raise SchemaError(f"another upgrade is running: {error}. Nothing was changed") from None
    yield
    # After an error the connection is closed, and the lock with it.
    with driver.transaction():
        driver.execute("SELECT pg_advisory_unlock(%s)", [UPGRADE_LOCK])


def _holders(driver: psycopg.Connection, query: str, parameters: dict[str, Any]) -> str:
    with driver.transaction():
        return describe(find_holders(driver, template(query).encode(), parameters))


def _check(connection: Connection, pending: list[Script]) -> None:
    """Refuse before anything changes where existing tables do not fit one of the revisions."""
    columns = [column for script in pending for column in script.module.EXPECTED]
    driver = _driver(connection)
    try:
        with driver.transaction():
            driver.execute("SET TRANSACTION READ ONLY")
            driver.execute(expect_sql(columns).encode())
    except errors.ObjectNotInPrerequisiteState as error:
        raise SchemaError(
            "the existing tables are not those the revisions expect, nothing was changed: "
            f"{error.diag.message_primary}"
        ) from None


def _ensure_version_schema(connection: Connection) -> None:
    driver = _driver(connection)
    with driver.transaction():
        found = driver.execute("SELECT to_regnamespace(%s)", [VERSION_SCHEMA]).fetchone()
        # Even with IF NOT EXISTS, creating takes a right that the role may no longer have.
        if found is None or found[0] is None:
            driver.execute(version_schema_sql(LockPolicy.timeout).encode())


def _apply(
    connection: Connection,
    configuration: Config,
    script: Script,
    policy: LockPolicy,
    progress: Progress,
) -> None:
    driver = _driver(connection)
    tables: list[str] = list(script.module.TABLES)

    def attempt() -> None:
        try:
            command.upgrade(configuration, script.revision)
        finally:
            # What is left open after an error, or of Alembic's own look-ups.
            if not driver.closed:
                connection.rollback()

    def holders() -> str:
        return _holders(driver, "holders", {"tables": tables})

    try:
        with_retries(policy, attempt, holders, progress)
    except LockUnavailableError as error:
        raise SchemaError(
            f"revision {script.revision} was not applied, nothing of it was changed: {error}. "
            "End that session, or allow more --attempts, and run the upgrade again"
        ) from None
    except (DBAPIError, psycopg.Error) as error:
        if driver.closed:
            raise SchemaError(
                f"the connection was lost during revision {script.revision}: {_explain(error)}. "
                "Run the upgrade again, it goes on where it stopped"
            ) from None
        raise SchemaError(
            f"revision {script.revision} failed, nothing of it was changed: {_explain(error)}"
        ) from None
