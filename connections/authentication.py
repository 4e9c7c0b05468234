"""How `DATABASE_AUTHENTICATION` says we log in: by the URL's password, or by AWS IAM.

`parameters` gives what a connection needs besides the URL. It is asked for every new connection,
for an IAM token is good for 15 minutes and one log-in after another.
"""

from __future__ import annotations

import os
from typing import Any, Literal, cast, get_args

from psycopg.conninfo import conninfo_to_dict

VARIABLE = "DATABASE_AUTHENTICATION"
REGION = "AWS_REGION"

Method = Literal["password", "aws-iam"]

_PORT = 5432
# A token is a password in clear text to the server: it must be the right server, by its name or
# at least by who signed for it. sslmode=require checks neither.
_VERIFYING = ("verify-full", "verify-ca")


class AuthenticationError(ValueError):
    """A variable is missing or wrong; the message names it, in one line, and holds no secret."""


def method() -> Method:
    """Return how to log in, "password" where `DATABASE_AUTHENTICATION` is not set.

    Raises AuthenticationError for a value that is none of the methods.
    """
    value = os.environ.get(VARIABLE, "").strip() or "password"
    if value not in get_args(Method):
        raise AuthenticationError(f"{VARIABLE}: takes {' or '.join(get_args(Method))}")
    return cast("Method", value)


def require(url: str, variable: str, wanted: Method | None = None) -> None:
    """Raise AuthenticationError, naming `variable`, if its URL does not fit the method.

    `wanted` is the method of the environment unless given. `url` is one that libpq can read.
    """
    if (wanted or method()) == "aws-iam":
        _place(url, variable)


def parameters(url: str, variable: str = "DATABASE_URL") -> dict[str, Any]:
    """Return the parameters that a connection to `url` takes besides it: a fresh token with IAM.

    `variable` is where `url` was read, for messages. May ask the network: not on an event loop.
    Raises AuthenticationError, and iam.CredentialsError where there is nobody to sign a token.
    """
    if method() == "password":
        return {}
    host, port, role, region = _place(url, variable)
    # Not before it is needed: the import takes a third of a second, and 12 MB.
    from connections.iam import token

    return {"password": token(host, port, role, region)}


def _place(url: str, variable: str) -> tuple[str, int, str, str]:
    """Return host, port, role and region that a token is signed for."""
    given = conninfo_to_dict(url)
    host, port = str(given.get("host") or ""), str(given.get("port") or _PORT)
    if given.get("sslmode") not in _VERIFYING:
        raise AuthenticationError(
            f"{variable}: takes sslmode=verify-full (or verify-ca) and sslrootcert where"
            f" {VARIABLE} is aws-iam, so that no other server gets the token"
        )
    if given.get("password") is not None:
        raise AuthenticationError(
            f"{variable}: takes no password where {VARIABLE} is aws-iam, which needs none"
        )
    if not host or "," in host or not port.isdecimal() or host.startswith("/"):
        raise AuthenticationError(
            f"{variable}: takes one host and port where {VARIABLE} is aws-iam: the token is for"
            " one server"
        )
    if not given.get("user"):
        raise AuthenticationError(
            f"{variable}: names no role, which the token is for: {VARIABLE} is aws-iam"
        )
    region = os.environ.get(REGION, "").strip()
    if not region:
        raise AuthenticationError(
            f"{REGION}: is not set; takes the region of the database, where {VARIABLE} is aws-iam"
        )
    return host, int(port), str(given["user"]), region


def without_secrets(text: str, *secrets: object) -> str:
    """Return `text` in one line, with each of the secrets replaced by ***."""
    line = " ".join(text.split())
    for secret in secrets:
        if secret:
            line = line.replace(str(secret), "***")
    return line
