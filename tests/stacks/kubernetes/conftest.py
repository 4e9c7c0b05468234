"""One control plane for all tests here, and for each module the stand-in over it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.control_plane import ControlPlane, running_control_plane
from tests.stacks.engine import Engine, ports
from tests.stacks.kubernetes.api import Api
from tests.stacks.kubernetes.cluster import Cluster
from tests.stacks.kubernetes.provider import KubernetesStandIn
from tests.stacks.stand_in import serving


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running_control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Api:
    return Api(str(control_plane.kubeconfig))


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster(patience=20)


@pytest.fixture(scope="module")
def port(cluster: Cluster) -> Iterator[int]:
    with serving(kubernetes=(KubernetesStandIn(cluster), 32)) as served:
        yield served["kubernetes"]


@pytest.fixture
def engine(tmp_path: Path, port: int, control_plane: ControlPlane) -> Engine:
    """An engine without a program yet, whose program finds its cluster and its namespace here."""
    return Engine(
        tmp_path,
        "test",
        {
            **ports({"kubernetes": port}),
            "TEST_KUBECONFIG": str(control_plane.kubeconfig),
            "TEST_NAMESPACE": f"test-{secrets.token_hex(4)}",
        },
    )
