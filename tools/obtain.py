"""Obtaining one program: the one on PATH, else the vendor's release, else a build from source."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tools.build import build
from tools.manifest import record
from tools.on_path import find_on_path, version_of
from tools.programs import Platform, Program, ToolsError
from tools.progress import say, step
from tools.release import Releases, ReleaseUnavailable


def obtain(program: Program, root: Path, on: Platform, releases: Releases) -> None:
    """Put the files of `program` into `.tools/bin` and into the manifest.

    Each file appears whole or not at all, and the manifest is written last: killed at any point,
    the next run starts this program again. Raises ToolsError.
    """
    tools = root / ".tools"
    bin_directory = tools / "bin"
    bin_directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="staging-", dir=tools) as name:
        staging = Path(name)
        found = find_on_path(program, exclude=bin_directory)
        if found is not None:
            for file in program.files:
                (staging / file).symlink_to(found.directory / file)
            version, source, origin = found.version, "path", str(found.directory)
        else:
            version = program.version
            source, origin = _fetch_or_build(program, root, on, releases, staging)
            _check_version(program, staging, source)
        for file in program.files:
            (staging / file).replace(bin_directory / file)
        record(program, root, version, source, origin)
    say(f"{program.name} {version}: from {origin}")


def remove_leftovers(root: Path) -> None:
    """Remove what killed runs left behind; the caller holds the lock."""
    for directory in (root / ".tools").glob("staging-*"):
        shutil.rmtree(directory, ignore_errors=True)


def _fetch_or_build(
    program: Program, root: Path, on: Platform, releases: Releases, staging: Path
) -> tuple[str, str]:
    """Return `release` or `build`, and the place the files in `staging` came from."""
    name = f"{program.name} {program.version}"
    try:
        with step(f"{name}: downloading", download=True) as running:
            return "release", releases.fetch(program, on, staging, running)
    except ReleaseUnavailable as unavailable:
        say(f"{name}: no release, building from source instead ({unavailable})")
    for leftover in staging.iterdir():
        leftover.unlink()
    with step(f"{name}: building (some {program.build.minutes:g} min)") as running:
        return "build", build(program, root, staging, running)


def _check_version(program: Program, directory: Path, source: str) -> None:
    missing = [name for name in program.files if not (directory / name).is_file()]
    told = version_of(directory / program.files[0], program.version_arguments)
    if missing or told != program.version:
        trouble = f"lacks {', '.join(missing)}" if missing else f"tells version {told or 'none'}"
        raise ToolsError(
            f"{program.name} {program.version} ({source}) {trouble} on this machine; install it by "
            f"hand so that it is on PATH: {program.by_hand}"
        )
