"""What has changed of an object, and which changes the real provider makes by replacement.

The table and the rules are those of pulumi-kubernetes 4: it compares the inputs with what the
server last said, cut to the shape of the inputs then.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

Path = tuple[str | int, ...]

_SELECTOR = (("spec", "selector"),)
_STATEFUL_SET = tuple(
    ("spec", name)
    for name in (
        "podManagementPolicy",
        "revisionHistoryLimit",
        "selector",
        "serviceName",
        "volumeClaimTemplates",
    )
)
_JOB = tuple(("spec", name) for name in ("completions", "parallelism", "selector", "template"))
_CLAIM = tuple(
    ("spec", name) for name in ("accessModes", "selector", "storageClassName", "volumeName")
)
_REPLACING: Mapping[tuple[str, str], Sequence[Path]] = {
    ("apps/v1", "DaemonSet"): _SELECTOR,
    ("apps/v1", "Deployment"): _SELECTOR,
    ("apps/v1", "StatefulSet"): _STATEFUL_SET,
    ("batch/v1", "Job"): _JOB,
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): (("roleRef",),),
    ("storage.k8s.io/v1", "StorageClass"): (("parameters",), ("provisioner",)),
    ("v1", "PersistentVolumeClaim"): _CLAIM,
    ("v1", "Pod"): (("spec",),),
    ("v1", "ResourceQuota"): (("spec", "scopes"),),
    ("v1", "Secret"): (("type",),),
    ("v1", "Service"): (("spec", "clusterIP"),),
}
_IDENTITY: Sequence[Path] = (("metadata", "name"), ("metadata", "namespace"))
_OUR_GROUPS = frozenset(
    {
        "admissionregistration.k8s.io",
        "apps",
        "autoscaling",
        "batch",
        "coordination.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
    }
)


def replacing_paths(
    declared: Mapping[str, Any], *, mutable_secrets: bool, mutable_config_maps: bool
) -> list[Path]:
    """Return the paths whose change replaces the object."""
    kind = (declared.get("apiVersion", ""), declared.get("kind", ""))
    frozen = bool(declared.get("immutable"))
    paths = [*_IDENTITY, *_REPLACING.get(kind, ())]
    if kind == ("v1", "Secret") and (frozen or not mutable_secrets):
        paths += [("data",), ("stringData",)]
    if kind == ("v1", "ConfigMap") and (frozen or not mutable_config_maps):
        paths += [("data",), ("binaryData",)]
    return paths


def replaces(path: Path, paths: Sequence[Path]) -> bool:
    """Tell whether a change at `path` touches any of `paths`."""
    return any(path[: len(each)] == each or each[: len(path)] == path for each in paths)


def normalised(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object as the server writes it: a Secret's `stringData` are among its `data`."""
    if declared.get("kind") != "Secret" or "stringData" not in declared:
        return dict(declared)
    rest = {key: value for key, value in declared.items() if key != "stringData"}
    if not isinstance(declared["stringData"], Mapping):
        # In a preview, where a part of it is not known yet.
        return {**rest, "data": declared["stringData"]}
    encoded = {
        key: base64.b64encode(str(value).encode()).decode()
        for key, value in declared["stringData"].items()
    }
    return {**rest, "data": {**declared.get("data", {}), **encoded}}


def pruned(live: Any, shape: Any) -> Any:
    """Return of `live` what `shape` has too; elements of lists by their place."""
    if isinstance(live, Mapping) and isinstance(shape, Mapping):
        return {key: pruned(live[key], shape[key]) for key in shape if key in live}
    if isinstance(live, list) and isinstance(shape, list):
        both = min(len(live), len(shape))
        return [pruned(live[index], shape[index]) for index in range(both)] + live[both:]
    return live


def differences(old: Any, new: Any, *, custom: bool, path: Path = ()) -> dict[Path, str]:
    """Return what differs: the path to `add`, `delete` or `update`.

    What a server leaves away when it is empty is no difference, unless the resource is `custom`:
    those come back as they were sent.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: dict[Path, str] = {}
        for key in [*new, *(key for key in old if key not in new)]:
            inner = (*path, key)
            found |= differences(old.get(key), new.get(key), custom=custom, path=inner)
        return found
    if isinstance(old, list) and isinstance(new, list):
        found = {}
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            found |= differences(before, after, custom=custom, path=(*path, index))
        return found
    if _same(path, old, new, custom=custom):
        return {}
    return {path: "add" if old is None else "delete" if new is None else "update"}


def _same(path: Path, old: Any, new: Any, *, custom: bool) -> bool:
    if old == new and isinstance(old, bool) == isinstance(new, bool):
        return True
    if custom:
        return False
    if old is None or new is None:
        return not (new if old is None else old)
    amounts = _amount(old), _amount(new)
    return (
        bool(_QUANTITIES & {str(part) for part in path})
        and None not in amounts
        and (amounts[0] == amounts[1])
    )


_QUANTITIES = frozenset({"hard", "limits", "requests", "default", "max", "min", "sizeLimit"})


def _amount(value: Any) -> Decimal | None:
    try:
        return parse_quantity(value)
    except (ValueError, TypeError):
        return None


def is_custom(declared: Mapping[str, Any]) -> bool:
    """Tell whether an object is of a kind that Kubernetes itself does not have."""
    group, _, version = declared.get("apiVersion", "").partition("/")
    return bool(version) and group not in _OUR_GROUPS


def shown(path: Path) -> str:
    """Return a path as Pulumi writes it: `spec.template.spec.containers[0].image`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif any(character in part for character in '."[]'):
            text += '["{}"]'.format(part.replace('"', '\\"'))
        else:
            text += f".{part}" if text else part
    return text
