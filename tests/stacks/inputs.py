"""Inputs of resources as they are on the wire, made readable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SIGNATURE = "4dabf18193072939515e22adb298388d"
"""The key by which Pulumi marks a value that is no plain one, a secret for instance."""


def is_secret(value: Any) -> bool:
    """Tell whether an input is marked as secret to the engine."""
    return isinstance(value, Mapping) and _SIGNATURE in value


def plain(value: Any) -> Any:
    """Return inputs with their secrets readable; on the wire every number is a float."""
    if is_secret(value):
        return plain(value["value"])
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def hidden(value: Any) -> Any:
    """Return inputs as they are shown: with their secrets hidden."""
    if is_secret(value):
        return "[secret]"
    if isinstance(value, Mapping):
        return {key: hidden(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [hidden(inner) for inner in value]
    return value


def without_digest(name: str) -> str:
    """Return the name of a step's Job as its step has it, any other name as it is."""
    return re.sub("-[0-9a-f]{10}(?= Job$|$)", "", name)
