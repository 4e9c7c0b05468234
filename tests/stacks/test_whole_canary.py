"""Secrets planted in staging are in no state, preview, output, log or object but Secrets.

The whole program by the real engine, its objects in a real control plane. The pods run a program
that only pretends, and writes its arguments to its log: what a careless one might.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.canary import Canaries, Finding, all_objects
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.node import Node
from tests.stacks import whole
from tests.stacks.engine import Engine
from tests.stacks.pretence import SERVICE, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLANTED = {
    "monitoring.webhookUrl": f"https://hooks.example.org/{secrets.token_urlsafe(24)}",
    "monitoring.heartbeatUrl": f"https://pulse.example.org/{secrets.token_urlsafe(24)}",
    "grafana.token": f"glsa_{secrets.token_urlsafe(24)}",
}
GRAFANA: dict[str, Any] = {
    "source": "external",
    "url": "https://example.grafana.net",
    "notificationPolicy": True,
}

PROGRAM = (
    """#!{python} -S
import os, signal, sys
print(sys.argv, flush=True)
if sys.argv[2] == "workers" and sys.argv[3] != "install":"""
    + SERVICE
    + """
print("{{}}")
"""
)


@dataclass
class Planted:
    """The stack as it was brought up, and what was shown of it so far."""

    engine: Engine
    plane: ControlPlane
    node: Node
    canaries: Canaries
    shown: dict[str, str]
    in_command_lines: list[Finding]
    """While services ran, and before anything is taken away."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    directory = tmp_path_factory.mktemp("canary")
    directory.chmod(0o755)
    source = PROGRAM.format(python=sys.executable)
    with running_cluster(directory, directory / "python", source) as (plane, node, stand_ins):
        engine = stand_ins.engine(directory / "engine", "staging")
        whole.lay_out(engine, partitioning={"phase": "prepare"}, grafana=GRAFANA)
        for key, value in PLANTED.items():
            engine.pulumi(
                *("config", "set", "--path", "--secret", "--stack", "staging"),
                *(f"learning-platform:{key}", value),
            )
        shown: dict[str, str] = {}

        def show(*arguments: str) -> None:
            done = engine.pulumi(*arguments, "--stack", "staging")
            shown[" ".join(arguments)] = done.stdout + done.stderr

        show("preview", "--diff")
        show("up", "--yes", "--skip-preview", "--diff")
        queue = str(urlsplit(str(engine.outputs()["redis_url"])).password)
        values = {key.partition(".")[2]: urlsplit(v).path or v for key, v in PLANTED.items()}
        canaries = Canaries(queue=queue, **values)
        in_command_lines = canaries.in_command_lines()
        show("stack", "output", "--json")
        show("config")
        show("refresh", "--yes", "--skip-preview", "--diff")
        yield Planted(engine, plane, node, canaries, shown, in_command_lines)


def test_none_is_in_what_pulumi_shows(planted: Planted) -> None:
    assert planted.canaries.in_text(**planted.shown) == []


def test_none_is_in_what_pulumi_keeps(planted: Planted) -> None:
    directory = planted.engine.directory
    assert list((directory / "state").rglob("*.json*"))
    assert planted.canaries.in_tree(directory) == []


def test_none_is_in_the_arguments_of_any_process(planted: Planted) -> None:
    assert planted.in_command_lines == []


def test_none_is_in_any_object_of_the_cluster_but_in_the_data_of_secrets(planted: Planted) -> None:
    objects = all_objects(planted.plane.kubeconfig)
    kinds = {item["kind"] for item in objects}
    assert kinds >= {"Deployment", "Job", "CronJob", "Pod", "ConfigMap", "Secret", "Event"}
    assert planted.canaries.in_objects(objects) == []
    # It would find them: this is where they are.
    exposed = [{**item, "kind": "exposed"} for item in objects if item["kind"] == "Secret"]
    found = {finding.secret for finding in planted.canaries.in_objects(exposed)}
    assert found >= {"queue", "webhookUrl", "heartbeatUrl"}


def test_none_is_in_the_logs_of_the_pods(planted: Planted) -> None:
    pods = [
        item["metadata"]["name"]
        for item in all_objects(planted.plane.kubeconfig)
        if item["kind"] == "Pod" and item["metadata"]["namespace"] == "learning-platform"
    ]
    logs = {pod: planted.node.logs("learning-platform", pod) for pod in pods}
    assert any("migrations" in log for log in logs.values())
    assert any("complexity" in log for log in logs.values())
    assert planted.canaries.in_text(**logs) == []
