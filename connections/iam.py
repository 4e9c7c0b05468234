"""Tokens of RDS's IAM authentication: a log-in that is signed instead of known.

A token is the URL of a request that would be `connect`, signed in advance; RDS takes it in the
place of a password for 15 minutes. It is what boto3's `generate_db_auth_token` makes, signed by the
library beneath, since boto3's client reads the description of all of RDS first (twice the memory).
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# Of botocore's types some are written down, and some only known to itself.

from __future__ import annotations

import logging
import threading
from typing import cast
from urllib.parse import urlencode

import psycopg
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

LIFETIME_SECONDS = 900

_SCHEME = "https://"

# At the level debug it writes what it signs, which is the token but for its signature, and then
# that too.
logging.getLogger("botocore").setLevel(logging.WARNING)


class CredentialsError(psycopg.OperationalError):
    """There are no AWS credentials to sign with at the moment.

    It is for callers what a server is that is away: they tell it, and try again.
    """


_lock = threading.Lock()
_session: Session | None = None


def token(host: str, port: int, role: str, region: str) -> str:
    """Return what logs `role` in at that server, for 15 minutes from now.

    The credentials are the process's own (pod identity's, in the cluster), kept and renewed by
    botocore. Raises CredentialsError, its text in one line.
    """
    try:
        credentials = _found().get_frozen_credentials()
    except (BotoCoreError, ClientError, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CredentialsError(f"no AWS credentials for {role}@{host}: {reason}") from None
    query = urlencode({"Action": "connect", "DBUser": role})
    request = AWSRequest("GET", f"{_SCHEME}{host}:{port}/?{query}")
    signer = SigV4QueryAuth(credentials, "rds-db", region, expires=LIFETIME_SECONDS)
    signer.add_auth(request)
    return str(request.url).removeprefix(_SCHEME)  # pyright: ignore[reportUnknownArgumentType]


def _found() -> Credentials:
    """Return the credentials of the process, looked for again as long as there were none."""
    global _session
    # The session is not made for several threads, what it returns is.
    with _lock:
        _session = _session or Session()
        found = cast("Credentials | None", _session.get_credentials())
    if found is None:
        raise ValueError(
            "none are found; in the cluster the service account takes a pod identity association"
        )
    return found
