"""All stand-ins together, for a whole program: AWS, random, Kubernetes and Grafana.

An EKS cluster is the control plane that is given; a kubeconfig that asks `aws eks get-token` for
credentials, in the provider or in the program, gets the administrator's from a command of ours.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kubernetes.control_plane import ControlPlane
from tests.stacks.aws.kinds.cloud import Cloud, DatabaseServer, QueueServer, Servers
from tests.stacks.aws.provider import AwsBackend, running_aws
from tests.stacks.engine import Engine, ports
from tests.stacks.grafana.provider import GrafanaBackend
from tests.stacks.kubernetes.cluster import Cluster
from tests.stacks.kubernetes.provider import KubernetesStandIn
from tests.stacks.stand_in import StandIn, serving

_AWS = """#!{python}
import json
import sys

given = sys.argv[1:]
names = given[2::2]
if given[:2] != ["eks", "get-token"] or names != ["--cluster-name", "--region"]:
    sys.exit(f"this is no aws, and knows no {{given}}")
credential = {{
    "apiVersion": "client.authentication.k8s.io/v1beta1",
    "kind": "ExecCredential",
    "status": {{"token": {token}}},
}}
print(json.dumps(credential))
"""


@dataclass
class StandIns:
    """The stand-ins as they run. `commands` is a folder with an `aws` that gives out tokens."""

    aws: AwsBackend
    cluster: Cluster
    grafana: GrafanaBackend
    environment: dict[str, str]
    commands: Path

    @property
    def cloud(self) -> Cloud:
        """The account, once a program has configured the provider."""
        assert self.aws.cloud is not None
        return self.aws.cloud

    def engine(self, directory: Path, stack: str) -> Engine:
        """Return an engine that uses them, without a program yet."""
        return Engine(directory, stack, self.environment, self.commands)


@contextmanager
def running_stand_ins(
    directory: Path,
    plane: ControlPlane | None,
    patience: float = 600,
    *,
    database: DatabaseServer | None = None,
    queue: QueueServer | None = None,
) -> Iterator[StandIns]:
    """Run them all, over an empty account, an empty Grafana, and `plane` where there is one.

    Their files lie in `directory`. `patience` is how many seconds an object of the cluster is
    awaited for that says nothing of it. `database` and `queue` are what stands for RDS and
    ElastiCache; without, their names lead nowhere. One at a time in a process.
    """
    reached = None
    if plane is not None:
        reached = (plane.url, base64.b64encode(plane.authority.read_bytes()).decode())
    commands = _commands(directory, "" if plane is None else plane.token)
    cluster, grafana = Cluster(commands=commands, patience=patience), GrafanaBackend()
    with (
        running_aws(Servers(reached, database, queue)) as (aws, clouds),
        serving(
            kubernetes=(KubernetesStandIn(cluster), 32), grafana=(StandIn(grafana), 1)
        ) as others,
    ):
        yield StandIns(aws, cluster, grafana, ports({**clouds, **others}), commands)


def _commands(directory: Path, token: str) -> Path:
    folder = directory / "commands"
    folder.mkdir(parents=True)
    aws = folder / "aws"
    aws.touch(mode=0o700)
    aws.write_text(_AWS.format(python=sys.executable, token=json.dumps(token)))
    return folder
