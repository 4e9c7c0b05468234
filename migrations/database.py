"""Connections to the database that `DATABASE_URL` names, with errors that hold no secret."""

from __future__ import annotations

import os
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from connections import authentication
from connections.master import Login

VARIABLE = "DATABASE_URL"
_FORM = "postgresql://role:password@host:port/database"

_CONNECT_SECONDS = 10
# A connection that died without a word is noticed within half a minute.
_KEEPALIVES: dict[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class DatabaseError(Exception):
    """The database is not named rightly or not to be reached; the message says why, in one line."""


def database_url() -> str:
    """Return the URL in the environment variable `DATABASE_URL`.

    Raises DatabaseError when it is missing or no postgresql:// URL that libpq can read, or does not
    go with `DATABASE_AUTHENTICATION`.
    """
    url = os.environ.get(VARIABLE, "").strip()
    if not url:
        raise DatabaseError(f"{VARIABLE} is not set: takes {_FORM}")
    if not url.startswith(("postgresql://", "postgres://")):
        raise DatabaseError(f"{VARIABLE} is no Postgres URL: takes {_FORM}")
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # What libpq says here may quote parts of the URL, the password among them.
        raise DatabaseError(f"{VARIABLE} cannot be read as a URL: takes {_FORM}") from None
    try:
        authentication.require(url, VARIABLE)
    except authentication.AuthenticationError as error:
        raise DatabaseError(str(error)) from None
    return url


def connect(
    url: str, application_name: str, autocommit: bool = True, login: Login | None = None
) -> psycopg.Connection:
    """Open a connection that other sessions see as `application_name`.

    `url` is a postgresql:// URL; a `connect_timeout` or keepalive setting in it wins over ours.
    Where `DATABASE_AUTHENTICATION` is aws-iam it logs in with a token of its own; with a `login`,
    as that role instead.
    Raises DatabaseError, its text free of passwords, when the server is not to be reached or does
    not let us in, and when `url` leads through a pool of connections.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise DatabaseError(f"the database's URL cannot be read: takes {_FORM}") from None
    defaults = {"connect_timeout": _CONNECT_SECONDS, **_KEEPALIVES}
    options: dict[str, Any] = {name: value for name, value in defaults.items() if name not in given}
    secrets = [given.get("password"), given.get("sslpassword")]
    try:
        if login is not None:
            options |= {"user": login.role, "password": login.password}
        else:
            options |= authentication.parameters(url, VARIABLE)
        secrets.append(options.get("password"))
        connection = psycopg.connect(
            url, autocommit=autocommit, application_name=application_name, **options
        )
        pooled = _is_pooled(connection)
    except authentication.AuthenticationError as error:
        raise DatabaseError(str(error)) from None
    except psycopg.Error as error:
        reason = authentication.without_secrets(str(error), *secrets)
        raise DatabaseError(f"cannot connect to {place(url, login)}: {reason}") from None
    if pooled:
        connection.close()
        raise DatabaseError(
            f"{place(url)} is a pool of connections (pgbouncer or its like), where the locks of a"
            " session are nobody's: give the address of the Postgres server itself"
        )
    return connection


def _is_pooled(connection: psycopg.Connection) -> bool:
    """Return whether another process serves us than the one that answered when we connected.

    A pool makes up what it tells of the process, for it has none to tell of yet.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    if not connection.autocommit:
        connection.rollback()
    return row is not None and row[0] != connection.info.backend_pid


def place(url: str, login: Login | None = None) -> str:
    """Return where `url` leads, for messages: `role@host:port/database`, without its password."""
    given = conninfo_to_dict(url)
    host, port = given.get("host") or "localhost", given.get("port") or 5432
    role = login.role if login else given.get("user")
    user = f"{role}@" if role else ""
    return f"{user}{host}:{port}/{given.get('dbname') or ''}"
