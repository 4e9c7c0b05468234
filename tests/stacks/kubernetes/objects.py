"""What becomes of an object on its way between the engine and the server."""

from __future__ import annotations

import secrets

from tests.stacks.kubernetes.api import Object
from tests.stacks.kubernetes.awaiting import annotation
from tests.stacks.kubernetes.changes import differences, is_custom, normalised, pruned
from tests.stacks.kubernetes.properties import Secret, Tree, kept_secret, revealed
from tests.stacks.stand_in import token

_FOR_PROGRAM = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


def named(old: Tree, new: Tree, name: str, suffix: str) -> Tree:
    """Return the inputs with a name: their own, the one they got before, or a new one."""
    metadata = new.get("metadata", {})
    if not isinstance(metadata, dict) or metadata.get("name"):
        return dict(new)
    before = old.get("metadata", {})
    kept = before["name"] if annotation(old, "autonamed") == "true" else f"{name}-{suffix}"
    annotations = {**metadata.get("annotations", {}), "pulumi.com/autonamed": "true"}
    return {**new, "metadata": {**metadata, "name": kept, "annotations": annotations}}


def in_namespace(declared: Object) -> Object:
    """Return an object with its namespace said."""
    metadata = declared.get("metadata", {})
    return {**declared, "metadata": {"namespace": "default", **metadata}}


def renamed(declared: Object) -> Object:
    """Return an object under a name that nothing has."""
    name = f"{declared['metadata']['name'][:57]}-{secrets.token_hex(2)}"
    return {**declared, "metadata": {**declared["metadata"], "name": name}}


def state_with(declared: Object, live: Object, inputs: Tree, manager: str) -> Tree:
    """Return what the engine keeps: the object as it is, and what was declared."""
    return {
        **kept_secret(live, inputs),
        "__inputs": kept_secret(declared, inputs),
        "__initialApiVersion": declared["apiVersion"],
        "__fieldManager": manager,
    }


def with_inputs(state: Tree, inputs: Tree) -> Tree:
    return {**state, "__inputs": Secret(revealed(inputs))}


def identified(urn: str, id_: str, state: Tree) -> Object:
    """Return as much of an object as says which it is."""
    _, group_version, kind = token(urn).split(":")
    namespace, _, name = id_.rpartition("/")
    return {
        "apiVersion": state.get("apiVersion", group_version.removeprefix("core/")),
        "kind": state.get("kind", kind),
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
    }


def live_inputs(live: Object, declared: Object) -> Object:
    """Return the inputs that would have made the object as it is now."""
    wanted = normalised(declared)
    now = pruned(live, wanted)
    return now if differences(now, wanted, custom=is_custom(wanted)) else declared


def cleaned(live: Object) -> Object:
    """Return an object that no program declared without what only the server writes."""
    metadata = {key: live["metadata"][key] for key in live["metadata"] if key not in _FOR_PROGRAM}
    return {key: live[key] for key in live if key != "status"} | {"metadata": metadata}
