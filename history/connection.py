"""The connection a history is loaded by."""

from __future__ import annotations

import os

import psycopg
from psycopg.conninfo import conninfo_to_dict

from connections import authentication
from history.sources import HistoryError

DATABASE_URL = "DATABASE_URL"
_FORM = "takes a URL like postgresql://role:password@host:port/database"


def connect() -> psycopg.Connection:
    """Open the database of `DATABASE_URL`, in autocommit.

    Raises HistoryError if the variable is missing or wrong, or there is no server; the message
    never holds the URL, which has a password in it.
    """
    url = os.environ.get(DATABASE_URL, "")
    if not url:
        raise HistoryError(f"{DATABASE_URL}: is not set; {_FORM}")
    if not url.startswith(("postgresql://", "postgres://")):
        raise HistoryError(f"{DATABASE_URL}: {_FORM}")
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise HistoryError(f"{DATABASE_URL}: is malformed; {_FORM}") from None
    try:
        login = authentication.parameters(url, DATABASE_URL)
        return psycopg.connect(
            url, autocommit=True, connect_timeout=10, application_name="history", **login
        )
    except authentication.AuthenticationError as error:
        raise HistoryError(str(error)) from None
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise HistoryError(f"{DATABASE_URL}: cannot connect to Postgres: {reason}") from None
