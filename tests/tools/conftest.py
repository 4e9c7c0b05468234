"""Fixtures for obtaining programs: a release host on loopback and a checkout of only `tools/`."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.tools.releases import ReleaseHost, release_host, script

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def releases_on_loopback() -> Generator[ReleaseHost]:
    with release_host() as host:
        yield host


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with this project's `tools/` and environment, and nothing obtained."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".venv").symlink_to(ROOT / ".venv")
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copyfile(ROOT / name, root / name)
    return root


def put_programs(directory: Path, names: tuple[str, ...], version: str) -> Path:
    """Put executables that tell `version` into `directory`; return it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_bytes(script(version))
        (directory / name).chmod(0o755)
    return directory
