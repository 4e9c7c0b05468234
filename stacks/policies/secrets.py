"""Rules against secrets where everybody can read them: pod specifications, maps, chart values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from stacks.policies.kubernetes import WORKLOADS, containers, pod_of
from stacks.policies.rule import UNKNOWN, Resource, Surroundings, known_list, known_map, rule

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
RELEASE = "kubernetes:helm.sh/v3:Release"

# Names of what is secret itself, not of where it is: `DATABASE_PASSWORD` and not `PASSWORD_FILE`.
_SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|token|credentials?|(api|access|private|secret)_?key)$", re.I
)
_SECRET_TEXT = (
    ("a URL with a password", re.compile(r"://[^/\s:@]*:[^/\s@]+@")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("an access key of AWS", re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a token of Grafana", re.compile(r"\bgl(sa|c)_\w{8,}")),
)


@rule(
    "no-secret-in-sight",
    "a secret is in a Secret, never in a pod's specification, a map or a chart's values",
    *WORKLOADS,
    CONFIG_MAP,
    RELEASE,
)
def no_secret_in_sight(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.type in WORKLOADS:
        yield from _in_pod(pod_of(resource))
    elif resource.type == CONFIG_MAP:
        yield from _in_tree("data", resource.given("data"))
    else:
        yield from _in_tree("values", resource.given("values"))


def _in_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    for container in containers(pod):
        name = container.get("name")
        for variable in known_list(container.get("env")):
            given = known_map(variable)
            yield from _in_value(f"{name}, {given.get('name')}", given.get("name"), given)
        for part in ("command", "args"):
            for argument in known_list(container.get(part)):
                yield from _in_text(f"{name}, {part}", argument)


def _in_value(where: str, key: object, variable: Mapping[str, Any]) -> Iterator[str]:
    value = variable.get("value")
    if isinstance(value, str) and value and _SECRET_NAME.search(str(key)):
        yield f"{where} is given as it is"
    else:
        yield from _in_text(where, value)


def _in_text(where: str, text: object) -> Iterator[str]:
    if not isinstance(text, str):
        return
    for what, pattern in _SECRET_TEXT:
        if pattern.search(text):
            yield f"{where} holds {what}"


def _in_tree(where: str, tree: Any) -> Iterator[str]:
    """Look at every text of nested mappings and lists."""
    if tree is UNKNOWN:
        return
    if isinstance(tree, Mapping):
        for key, value in cast("Mapping[str, Any]", tree).items():
            if isinstance(value, str):
                yield from _in_value(f"{where}.{key}", key, {"value": value})
            else:
                yield from _in_tree(f"{where}.{key}", value)
    elif isinstance(tree, (list, tuple)):
        for value in cast("list[Any]", tree):
            yield from _in_tree(where, value)
    else:
        yield from _in_text(where, tree)


RULES = (no_secret_in_sight,)
