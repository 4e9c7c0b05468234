"""One control plane for all tests here, and a namespace of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.control_plane import ControlPlane, running_control_plane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running_control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace that enforces the restricted pod security standard."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.create_namespace(name)
    return name


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which alone the programs of the control plane are looked for."""
    monkeypatch.setattr("tests.kubernetes.control_plane.TOOLS", tmp_path / "tools")
    monkeypatch.setenv("PATH", "/nothing-here")
    folder = tmp_path / "tools" / "bin"
    folder.mkdir(parents=True)
    return folder
