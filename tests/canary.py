"""Secrets whose values are known, and a search for them wherever they must not be.

A finding tells the place, which secret it is and how it was written; never its value.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psutil

SHORTEST = 12
"""Bytes of a secret at least: what is shorter is found by chance."""

_DEEPEST = 4

# First bytes of what is compressed, and how to read it.
_READERS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ\x00", lzma.decompress),
    (b"\x78\x9c", zlib.decompress),
    (b"\x78\xda", zlib.decompress),
)
# What may be base64 of something compressed, which no spelling of the secret is found in.
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{64,}={0,2}")


@dataclass(frozen=True)
class Finding:
    """A secret that was found: where, which, and written how."""

    place: str
    secret: str
    spelling: str


class Canaries:
    """The secrets that were planted, by name."""

    def __init__(self, **values: str) -> None:
        for name, value in values.items():
            if len(value.encode()) < SHORTEST:
                raise ValueError(
                    f"{name} has less than {SHORTEST} bytes: it would be found anywhere"
                )
        self._needles = {
            (name, spelling): needle
            for name, value in values.items()
            for spelling, needle in spellings(value).items()
        }

    def in_bytes(self, place: str, data: bytes) -> list[Finding]:
        """Search what was written somewhere, and in it what is compressed or packed in base64."""
        found = [
            Finding(part, name, spelling)
            for part, content in _unpacked(place, data, _DEEPEST)
            for (name, spelling), needle in self._needles.items()
            if needle in content
        ]
        return _once(found)

    def in_text(self, **texts: str) -> list[Finding]:
        """Search outputs and logs, by name."""
        return [
            finding
            for place, text in texts.items()
            for finding in self.in_bytes(place, text.encode(errors="surrogateescape"))
        ]

    def in_tree(self, directory: Path, leave_out: Iterable[Path] = ()) -> list[Finding]:
        """Search all files below a directory, and their names; links are not followed."""
        if not directory.is_dir():
            raise ValueError(f"{directory} is no directory: nothing was searched")
        left_out = [path.absolute() for path in leave_out]
        found: list[Finding] = []
        for path in sorted(directory.absolute().rglob("*")):
            if any(path.is_relative_to(other) for other in left_out) or path.is_symlink():
                continue
            place = str(path.relative_to(directory.absolute()))
            found += self.in_bytes(f"name of {place}", place.encode())
            if path.is_file():
                found += self.in_bytes(place, path.read_bytes())
        return found

    def in_command_lines(self) -> list[Finding]:
        """Search the arguments of every process of the machine, which any user may read."""
        found: list[Finding] = []
        for process in psutil.process_iter():
            try:
                arguments = process.cmdline()
            except psutil.Error:
                continue
            data = "\0".join(arguments).encode(errors="surrogateescape")
            found += self.in_bytes(f"arguments of process {process.pid} ({arguments[:1]})", data)
        return found

    def in_environment(self, processes: Iterable[psutil.Process]) -> list[Finding]:
        """Search the environment of processes that are none of the secrets' business."""
        found: list[Finding] = []
        for process in processes:
            try:
                variables, name = process.environ(), process.name()
            except psutil.Error:
                continue
            for key, value in variables.items():
                place = f"{key} of process {process.pid} ({name})"
                found += self.in_bytes(place, value.encode(errors="surrogateescape"))
        return found

    def in_objects(self, objects: Iterable[Mapping[str, Any]]) -> list[Finding]:
        """Search objects of Kubernetes, all of each but the data of Secrets."""
        found: list[Finding] = []
        for declared in objects:
            metadata = declared.get("metadata", {})
            place = "/".join(
                filter(
                    None, (declared.get("kind"), metadata.get("namespace"), metadata.get("name"))
                )
            )
            shown = dict(declared)
            if declared.get("kind") == "Secret":
                shown.pop("data", None)
                shown.pop("stringData", None)
            found += self.in_bytes(place, json.dumps(shown, ensure_ascii=False).encode())
        return found


def spellings(value: str) -> dict[str, bytes]:
    """Return how a secret may be written, without those that hold a plainer one."""
    data = value.encode()
    found: dict[str, bytes] = {"plain": data}
    for name, spelling in (
        ("JSON", json.dumps(value)[1:-1].encode()),
        ("JSON of UTF-8", json.dumps(value, ensure_ascii=False)[1:-1].encode()),
        ("JSON in JSON", json.dumps(json.dumps(value))[3:-3].encode()),
        ("URL", quote(value, safe="").encode()),
        ("form", quote_plus(value).encode()),
        ("hexadecimal", data.hex().encode()),
        ("UTF-16", value.encode("utf-16-le")),
    ):
        if spelling not in found.values():
            found[name] = spelling
    # Of a longer text's base64, by where in a group of three bytes the secret begins. What its
    # first and last characters say is not of the secret alone.
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data)
        inner = encoded[(0, 2, 3)[shift] : len(encoded) // 4 * 4 - 4]
        found[f"base64, {shift}"] = inner
        if (safe := inner.translate(bytes.maketrans(b"+/", b"-_"))) != inner:
            found[f"base64 of URLs, {shift}"] = safe
    return found


def _once(found: list[Finding]) -> list[Finding]:
    """Leave those out that are found plainly in the same place."""
    plain = {(finding.place, finding.secret) for finding in found if finding.spelling == "plain"}
    return [
        finding
        for finding in found
        if finding.spelling == "plain" or (finding.place, finding.secret) not in plain
    ]


def _unpacked(place: str, data: bytes, depth: int) -> Iterator[tuple[str, bytes]]:
    """Yield the data, and whatever is packed in it, with where that is."""
    yield place, data
    if not depth:
        return
    for first, read in _READERS:
        if data.startswith(first):
            try:
                inner = read(data)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                continue
            yield from _unpacked(f"{place}, decompressed", inner, depth - 1)
    if data.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    yield from _unpacked(f"{place}: {name}", archive.read(name), depth - 1)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError):
            pass
    for match in _BASE64.finditer(data):
        text = match[0][: len(match[0]) // 4 * 4]
        try:
            inner = base64.b64decode(text)
        except ValueError:
            continue
        if any(inner.startswith(first) for first, _ in _READERS) or inner.startswith(b"PK\x03\x04"):
            yield from _unpacked(f"{place}, base64", inner, depth - 1)


def all_objects(kubeconfig: Path | str) -> list[dict[str, Any]]:
    """Return every object that a cluster's API lists, whatever its kind."""
    from kubernetes import config, dynamic
    from kubernetes.client.exceptions import ApiException

    client = dynamic.DynamicClient(config.new_client_from_config(str(kubeconfig)))
    found: list[dict[str, Any]] = []
    for resource in client.resources.search():
        if "list" not in (getattr(resource, "verbs", None) or ()) or resource.kind.endswith("List"):
            continue
        try:
            listed = resource.get().to_dict()
        except ApiException as error:
            # Kinds of extensions that do not answer just now.
            if error.status in (404, 405, 503):
                continue
            raise
        kind = {"apiVersion": resource.group_version, "kind": resource.kind}
        found.extend({**kind, **item} for item in listed.get("items") or ())
    return found
