"""Programs that the machine already has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.programs import Program, Version

_SECONDS = 20
"""A program that takes longer to tell its version is not one to build on."""


@dataclass(frozen=True)
class Found:
    """A program on PATH with its companions beside it."""

    directory: Path
    version: str


def find_on_path(program: Program, exclude: Path, search_path: str | None = None) -> Found | None:
    """Return where PATH has `program` in a version that fits, with all its companion files.

    Every directory of PATH is looked into, so an unfit program does not hide a fit one. `exclude`
    is our own directory, which may be on PATH. A link on PATH may lead to where the companions are.
    """
    path = os.environ.get("PATH", os.defpath) if search_path is None else search_path
    for part in path.split(os.pathsep):
        if not part or _same(Path(part), exclude):
            continue
        directory = _complete(program, Path(part).absolute())
        if directory is None or _same(directory, exclude):
            continue
        version = version_of(directory / program.files[0], program.version_arguments)
        if program.accepts(numbers(version)):
            return Found(directory, version)
    return None


def _complete(program: Program, directory: Path) -> Path | None:
    """Return the directory that holds all files: `directory`, or where its program's link leads."""
    first = shutil.which(program.files[0], path=str(directory))
    if first is None:
        return None
    for candidate in (directory, Path(first).resolve().parent):
        if all(shutil.which(name, path=str(candidate)) for name in program.files):
            return candidate
    return None


def version_of(executable: Path, arguments: tuple[str, ...]) -> str:
    """Return the first version number that the program tells, "" if it tells none."""
    try:
        told = subprocess.run(
            [str(executable), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # A dirty or pre-release build (3.260.0-alpha) counts as the release it leads to.
    found = re.search(r"\d+(?:\.\d+)+", told.stdout + told.stderr) if not told.returncode else None
    return found.group() if found else ""


def numbers(version: str) -> Version:
    """Return "3.259.0" as (3, 259, 0), "" as ()."""
    return tuple(int(part) for part in version.split(".") if part)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
