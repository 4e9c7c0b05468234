"""Properties as the engine sends them to a provider that keeps secrets: trees with `Secret` in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format, struct_pb2

from tests.stacks.stand_in import UNKNOWN

_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"

Tree = dict[str, Any]


@dataclass(frozen=True)
class Secret:
    """A value that the engine encrypts in its state and hides in what it shows."""

    value: Any


def decoded(struct: struct_pb2.Struct) -> Tree:
    """Return the properties: whole numbers as int, nulls left out, secrets as `Secret`."""
    return _decoded(json_format.MessageToDict(struct))


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return Secret(_decoded(value["value"]))
        return {key: _decoded(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_decoded(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def encoded(tree: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return a tree as the engine takes it."""
    struct = struct_pb2.Struct()
    struct.update(_encoded(tree))
    return struct


def _encoded(value: Any) -> Any:
    if isinstance(value, Secret):
        return {_SIGNATURE: _SECRET, "value": _encoded(value.value)}
    if isinstance(value, Mapping):
        return {key: _encoded(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_encoded(inner) for inner in value]
    return value


def revealed(value: Any) -> Any:
    """Return a copy without secretness."""
    if isinstance(value, Secret):
        return revealed(value.value)
    if isinstance(value, Mapping):
        return {key: revealed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [revealed(inner) for inner in value]
    return value


def is_known(value: Any) -> bool:
    """Tell whether nothing in `value` waits for the update."""
    if isinstance(value, Secret):
        return is_known(value.value)
    if isinstance(value, Mapping):
        return all(is_known(inner) for inner in value.values())
    if isinstance(value, list):
        return all(is_known(inner) for inner in value)
    return value != UNKNOWN


def holds_secret(value: Any) -> bool:
    """Tell whether anything in `value` is secret."""
    if isinstance(value, Secret):
        return True
    if isinstance(value, Mapping):
        return any(holds_secret(inner) for inner in value.values())
    return isinstance(value, list) and any(holds_secret(inner) for inner in value)


def kept_secret(values: Tree, declared: Mapping[str, Any]) -> Tree:
    """Return plain `values` with what is secret in `declared` as secret.

    Of two objects each key for itself; a list is secret as a whole where anything in it is; the
    data of a Kubernetes Secret always are. As the real provider does.
    """
    if values.get("kind") == "Secret":
        secrets = {key: Secret(values[key]) for key in ("data", "stringData") if key in values}
        return {**values, **secrets}
    kept = dict(values)
    for key in declared.keys() & values.keys():
        value, given = values[key], declared[key]
        if isinstance(value, dict) and isinstance(given, Mapping):
            kept[key] = kept_secret(value, given)
        elif holds_secret(given):
            kept[key] = Secret(value)
    return kept
