"""What lies in `.tools/bin`, and whether it is still what it should be.

`.tools/manifest.json` says of each program where it came from, by which recipe, and what its files
looked like; so a run that finds everything in place starts no program and hashes no binary.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.programs import Program


@dataclass(frozen=True)
class Installed:
    """One program in `.tools/bin`."""

    version: str
    source: str
    """`path`, `release` or `build`."""
    origin: str
    """The directory, URL or module it came from."""
    recipe: str
    files: dict[str, str]
    """What each file looked like (size and time of change) when it was put there."""


def recipe_of(program: Program, root: Path) -> str:
    """Return a digest of all that decides what is obtained."""
    digest = hashlib.sha256(repr(program).encode())
    module = root / program.build.module
    sources = sorted((module / program.build.package).glob("*.go"))
    for file in (module / "go.mod", module / "go.sum", *sources):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def installed(root: Path) -> dict[str, Installed]:
    """Return what the manifest tells, by program; nothing where it is missing or unreadable."""
    try:
        told = json.loads(_manifest(root).read_text())
        return {name: Installed(**entry) for name, entry in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def in_place(program: Program, root: Path) -> Installed | None:
    """Return the manifest's entry if all files of `program` are there as they were put there."""
    entry = installed(root).get(program.name)
    if entry is None or entry.recipe != recipe_of(program, root):
        return None
    for name in program.files:
        if fingerprint(root / ".tools" / "bin" / name) != entry.files.get(name, ""):
            return None
    return entry


def record(program: Program, root: Path, version: str, source: str, origin: str) -> None:
    """Write down that the files of `program` are in `.tools/bin` now."""
    entry = Installed(
        version=version,
        source=source,
        origin=origin,
        recipe=recipe_of(program, root),
        files={name: fingerprint(root / ".tools" / "bin" / name) for name in program.files},
    )
    entries = {**installed(root), program.name: entry}
    temporary = _manifest(root).with_suffix(".new")
    temporary.write_text(
        json.dumps({name: asdict(entry) for name, entry in entries.items()}, indent=1)
    )
    temporary.replace(_manifest(root))


def fingerprint(path: Path) -> str:
    """Return size and time of change of what `path` leads to; none for what is missing."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size}:{status.st_mtime_ns}"


def _manifest(root: Path) -> Path:
    return root / ".tools" / "manifest.json"
