"""What a container's process sees: its variables and arguments, as the kubelet resolves them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


class UnsupportedError(Exception):
    """The pod asks for what the stand-in cannot do; the message says for what."""


class NotYetError(Exception):
    """What a container refers to does not exist; it may come."""


@dataclass(frozen=True)
class Sources:
    """Where values come from: the pod, and the namespace's secrets and config maps."""

    pod: Object
    address: str
    """The pod's."""
    host_address: str
    secret: Callable[[str], Object | None]
    config_map: Callable[[str], Object | None]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Return `text` with each `$(NAME)` of a known variable replaced; `$$` stands for `$`."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^()]*)\)", value, text)


def variables_of(container: Object, sources: Sources) -> dict[str, str]:
    """Return the variables that the container's `envFrom` and `env` give, in their order.

    Raises NotYetError and UnsupportedError.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        prefix = source.get("prefix", "")
        for key, value in _all_of(source, sources).items():
            found[prefix + key] = value
    for variable in container.get("env", []):
        name = variable["name"]
        if "valueFrom" in variable:
            value = _value_from(variable["valueFrom"], sources)
            if value is None:
                continue
            found[name] = value
        else:
            found[name] = expand(variable.get("value", ""), found)
    return found


def field(path: str, sources: Sources) -> str:
    """Return what the downward API tells of a pod; raise UnsupportedError for what we cannot."""
    metadata, spec = sources.pod["metadata"], sources.pod["spec"]
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return metadata.get(keyed[1], {}).get(keyed[2], "")
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": sources.host_address,
        "status.podIP": sources.address,
        "status.podIPs": sources.address,
    }
    if path not in simple:
        raise UnsupportedError(f"fieldRef {path}")
    return simple[path]


def decoded(secret: Object) -> dict[str, bytes]:
    """Return the data of a secret."""
    return {key: base64.b64decode(value) for key, value in secret.get("data", {}).items()}


def contents(config_map: Object) -> dict[str, bytes]:
    """Return the data of a config map."""
    texts = {key: value.encode() for key, value in config_map.get("data", {}).items()}
    binary = config_map.get("binaryData", {})
    return texts | {key: base64.b64decode(value) for key, value in binary.items()}


def _all_of(source: Object, sources: Sources) -> dict[str, str]:
    if "secretRef" in source:
        wanted, kind = source["secretRef"], "secret"
        found = sources.secret(wanted["name"])
        data = decoded(found) if found else None
    else:
        wanted, kind = source["configMapRef"], "configmap"
        found = sources.config_map(wanted["name"])
        data = contents(found) if found else None
    if data is None:
        if wanted.get("optional"):
            return {}
        raise NotYetError(f'{kind} "{wanted["name"]}" not found')
    return {key: value.decode() for key, value in sorted(data.items())}


def _value_from(source: Object, sources: Sources) -> str | None:
    """Return a variable's value, None for an optional one that is missing."""
    if "fieldRef" in source:
        return field(source["fieldRef"]["fieldPath"], sources)
    if "secretKeyRef" in source:
        wanted, kind = source["secretKeyRef"], "secret"
        found = sources.secret(wanted["name"])
        data = decoded(found) if found else {}
    elif "configMapKeyRef" in source:
        wanted, kind = source["configMapKeyRef"], "configmap"
        found = sources.config_map(wanted["name"])
        data = contents(found) if found else {}
    else:
        raise UnsupportedError(f"a variable from {', '.join(source)}")
    if wanted["key"] in data:
        return data[wanted["key"]].decode()
    if wanted.get("optional"):
        return None
    missing = f"couldn't find key {wanted['key']} in" if found else "not found:"
    raise NotYetError(f'{missing} {kind} "{wanted["name"]}"')
