"""IAM policy documents as JSON text, with their keys in a fixed order so that they do not drift."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def document(*statements: Mapping[str, Any]) -> str:
    """Return a policy document of `statements`."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, sort_keys=True)


def allow(
    actions: Sequence[str], resources: Sequence[str], conditions: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a statement of an identity's policy that allows `actions` on `resources`."""
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": list(resources),
    }
    if conditions:
        statement["Condition"] = dict(conditions)
    return statement


def trust(
    service: str,
    actions: Sequence[str] = ("sts:AssumeRole",),
    conditions: Mapping[str, Any] | None = None,
) -> str:
    """Return the document that lets an AWS service, and nobody else, take a role."""
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": list(actions),
    }
    if conditions:
        statement["Condition"] = dict(conditions)
    return document(statement)
