"""The server's administrator, whose password RDS keeps, and changes, in Secrets Manager."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# boto3 carries no type information.

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, cast

from connections.authentication import AuthenticationError

VARIABLE = "DATABASE_MASTER_SECRET_ARN"
_FORM = "arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME"


class MasterSecretError(Exception):
    """The secret could not be read, or is no log-in; the message says why, in one line."""


@dataclass(frozen=True)
class Login:
    """A role and its password, which is not shown."""

    role: str
    password: str = field(repr=False)


def master_login() -> Login | None:
    """Return the log-in in the secret that `DATABASE_MASTER_SECRET_ARN` names, None if it is unset.

    Raises AuthenticationError if that is no secret's ARN, MasterSecretError if it cannot be read.
    """
    name = os.environ.get(VARIABLE, "").strip()
    if not name:
        return None
    parts = name.split(":")
    if len(parts) < 7 or parts[0] != "arn" or parts[2] != "secretsmanager":
        raise AuthenticationError(f"{VARIABLE}: takes {_FORM}")
    return _login(name, _secret(name, region=parts[3]))


def _secret(name: str, region: str) -> str:
    # Not before it is needed, see authentication.
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from connections import iam  # keeps botocore from logging what it signs and gets

    _ = iam
    try:
        client = cast("Any", boto3.Session()).client("secretsmanager", region)
        return str(client.get_secret_value(SecretId=name)["SecretString"])
    except (BotoCoreError, ClientError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise MasterSecretError(f"cannot read the secret {name}: {reason}") from None


def _login(name: str, text: str) -> Login:
    try:
        values = json.loads(text)
        return Login(str(values["username"]), str(values["password"]))
    except (ValueError, TypeError, KeyError):
        # What is in it, if not this, is not for messages either.
        raise MasterSecretError(
            f"the secret {name} is no log-in: takes a JSON object with username and password"
        ) from None
