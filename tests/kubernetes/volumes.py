"""A pod's volumes as directories of its own, and how a process that sees no mounts finds them.

A process without a file system of its own cannot have a mount at a path of its choice. So where its
arguments or variables name a mount's path they are given the directory's instead, and a mount at
/tmp is what TMPDIR names. A mount that nothing names would be missed in silence; it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.kubernetes.environment import (
    NotYetError,
    Object,
    Sources,
    UnsupportedError,
    contents,
    decoded,
    field,
)

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the API server mounts a token into each pod that does not ask it not to."""

_TEMPORARY = "/tmp"

TokenFor = Callable[[Object], str]
"""Returns a token of the pod's service account for a projection's audience and lifetime."""


def make_volumes(sources: Sources, directory: Path, token: TokenFor) -> dict[str, Path]:
    """Make the pod's volumes below `directory`; return their directories by name.

    Raises NotYetError and UnsupportedError.
    """
    made: dict[str, Path] = {}
    for volume in sources.pod["spec"].get("volumes", []):
        path = directory / volume["name"]
        path.mkdir(parents=True, exist_ok=True)
        if "emptyDir" not in volume:
            for name, (data, mode) in _files(volume, sources, token).items():
                file = path / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)
                file.touch(mode=mode)
                file.write_bytes(data)
        made[volume["name"]] = path
    return made


def mounts_of(container: Object, volumes: Mapping[str, Path]) -> dict[str, Path]:
    """Return the directory or file that stands in for each path the container mounts."""
    return {
        mount["mountPath"].rstrip("/"): volumes[mount["name"]] / mount.get("subPath", "")
        for mount in container.get("volumeMounts", [])
    }


class Paths:
    """Puts in the paths of mounts, and of what else the image has elsewhere than we."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self.used: set[str] = set()
        """The places that were named."""
        self._places = places
        # The longest first: a mount may lie within another.
        names = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))
        self._pattern = re.compile(rf"(?<![\w./-])({names})(?![\w.-])") if names else None

    def put_in(self, text: str) -> str:
        """Return `text` with the places it names replaced."""

        def replaced(found: re.Match[str]) -> str:
            self.used.add(found[1])
            return str(self._places[found[1]])

        return self._pattern.sub(replaced, text) if self._pattern else text

    def require_used(self, mounts: Sequence[str]) -> None:
        """Raise UnsupportedError for a mount that nothing named."""
        for mount in mounts:
            if mount not in self.used | {_TEMPORARY, SERVICE_ACCOUNT}:
                raise UnsupportedError(
                    f"the mount at {mount}: no argument and no variable names it, and a process "
                    "has no file system of its own"
                )


def temporary_variables(mounts: Mapping[str, Path]) -> dict[str, str]:
    """Return the variable that leads to a mount at /tmp."""
    return {"TMPDIR": str(mounts[_TEMPORARY])} if _TEMPORARY in mounts else {}


def _files(volume: Object, sources: Sources, token: TokenFor) -> dict[str, tuple[bytes, int]]:
    """Return the files of a volume: their contents and modes by path."""
    if "projected" in volume:
        projected = volume["projected"]
        mode = projected.get("defaultMode", 0o644)
        found: dict[str, tuple[bytes, int]] = {}
        for part in projected.get("sources", []):
            found |= _of_source(part, sources, token, mode)
        return found
    for kind in ("secret", "configMap", "downwardAPI"):
        if kind in volume:
            source = dict(volume[kind])
            if kind == "secret":
                source["name"] = source.pop("secretName")
            return _of_source({kind: source}, sources, token, source.get("defaultMode", 0o644))
    kinds = ", ".join(key for key in volume if key != "name")
    raise UnsupportedError(f"the volume {volume['name']}: {kinds}")


def _of_source(
    part: Object, sources: Sources, token: TokenFor, mode: int
) -> dict[str, tuple[bytes, int]]:
    if "serviceAccountToken" in part:
        wanted = part["serviceAccountToken"]
        return {wanted["path"]: (token(wanted).encode(), mode)}
    if "downwardAPI" in part:
        return {
            item["path"]: (_downward(item, sources).encode(), item.get("mode", mode))
            for item in part["downwardAPI"].get("items", [])
        }
    if "secret" in part:
        wanted, kind = part["secret"], "secret"
        found = sources.secret(wanted["name"])
        data = decoded(found) if found else None
    elif "configMap" in part:
        wanted, kind = part["configMap"], "configmap"
        found = sources.config_map(wanted["name"])
        data = contents(found) if found else None
    else:
        raise UnsupportedError(f"a projection of {', '.join(part)}")
    optional = wanted.get("optional", False)
    if data is None:
        if optional:
            return {}
        raise NotYetError(f'{kind} "{wanted["name"]}" not found')
    if "items" not in wanted:
        return {key: (value, mode) for key, value in data.items()}
    files: dict[str, tuple[bytes, int]] = {}
    for item in wanted["items"]:
        if item["key"] in data:
            files[item["path"]] = data[item["key"]], item.get("mode", mode)
        elif not optional:
            raise NotYetError(f'{kind} "{wanted["name"]}" has no key {item["key"]}')
    return files


def _downward(item: Object, sources: Sources) -> str:
    if "fieldRef" not in item:
        raise UnsupportedError(f"a file of {', '.join(item)}")
    path = item["fieldRef"]["fieldPath"]
    if path in ("metadata.labels", "metadata.annotations"):
        values = sources.pod["metadata"].get(path.partition(".")[2], {})
        return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
    return field(path, sources)
