"""One control plane for all tests here, and a namespace of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.control_plane import ControlPlane, running_control_plane
from tests.kubernetes.node import Node, running_node
from tests.kubernetes.pods import Tempo


@pytest.fixture(scope="package")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running_control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane) -> Iterator[Node]:
    """Nodes in two zones, a little quicker than real ones."""
    tempo = Tempo(back_off_seconds=1, probe_at_most_every=0.5)
    zones = ("eu-central-1a", "eu-central-1b")
    with running_node(control_plane, zones=zones, tempo=tempo) as running:
        yield running


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
