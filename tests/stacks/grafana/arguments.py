"""Inputs against the argument classes of the Grafana SDK: what those do not know is refused.

The SDK refuses an unknown keyword itself, but takes any dictionary in place of a class.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Mapping
from typing import Any

from pulumi import _types

_LOCAL = ("__defaults",)


def require_known(type_: str, inputs: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the property, for what the type has no argument for."""
    _check(_class_of(type_), inputs, type_)


@functools.cache
def _class_of(type_: str) -> type:
    _, module, kind = type_.split(":")
    package = importlib.import_module(f"pulumiverse_grafana.{module.split('/')[0]}")
    return getattr(package, f"{kind}Args")


def _check(arguments: type, inputs: Mapping[str, Any], where: str) -> None:
    known = _properties(arguments)
    for name, value in inputs.items():
        if name in _LOCAL:
            continue
        if name not in known:
            raise ValueError(f"{where} has no property {name}")
        nested = known[name]
        for each in value if isinstance(value, list) else [value]:
            if nested is not None and isinstance(each, Mapping):
                _check(nested, each, f"{where}.{name}")
    missing = [name for name in _required(arguments) if name not in inputs]
    if missing:
        raise ValueError(f"{where} needs {', '.join(missing)}")


@functools.cache
def _properties(arguments: type) -> dict[str, type | None]:
    """Return the properties' names on the wire, with the class of those that have one."""
    names = _types.input_type_py_to_pulumi_names(arguments)
    types = _types.input_type_types(arguments)
    return {wired: _nested(types.get(name)) for name, wired in names.items()}


@functools.cache
def _required(arguments: type) -> list[str]:
    names = _types.input_type_py_to_pulumi_names(arguments)
    parameters = inspect.signature(arguments).parameters
    return [
        names[name]
        for name, parameter in parameters.items()
        if name in names and parameter.default is inspect.Parameter.empty
    ]


def _nested(hint: Any) -> type | None:
    """Return the argument class within a type, if there is one."""
    if isinstance(hint, type) and _types.is_input_type(hint):
        return hint
    for inner in typing.get_args(hint):
        found = _nested(inner)
        if found is not None:
            return found
    return None
