"""Prometheus finds in a real API server what our PodMonitors select, under the service's name.

The configuration is the operator's own: operator/prometheus.yml is what its generator (v0.85.0,
tools/prometheus-operator) makes of our PodMonitor. `python -m tests.kubernetes.test_pod_monitors`
prints what it was given.
"""

from __future__ import annotations

import json
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.kubernetes.prometheus_resources import pod_monitor_spec
from tests.alerts.monitoring_servers import get_json, running_prometheus
from tests.conftest import Tools
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.node import Node
from tests.kubernetes.objects import Cluster, is_ready, once, python, wait_for

pytestmark = pytest.mark.slow

CONFIGURATION = Path(__file__).resolve().parent / "operator" / "prometheus.yml"
NAMESPACE = "learning-platform"
SERVICE = "exporter"
NAME = "app.kubernetes.io/name"

METRICS = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'bullmq_queue_size{queue="fsrs-optimization"} 7\\n'
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer((os.environ["ADDRESS"], int(os.environ["PORT"])), Handler).serve_forever()
"""


def request() -> dict[str, Any]:
    """Return what the operator is given: a Prometheus, and the PodMonitor of one service."""
    metadata = {"name": "prometheus", "namespace": "monitoring"}
    monitor = {"name": SERVICE, "namespace": NAMESPACE}
    return {
        "prometheus": {
            "metadata": metadata,
            "spec": {"scrapeInterval": "30s", "evaluationInterval": "1s"},
        },
        "podMonitors": [{"metadata": monitor, "spec": pod_monitor_spec(SERVICE, 1)}],
    }


def configuration(plane: ControlPlane, namespace: str) -> str:
    """Return the operator's configuration for a Prometheus outside of the cluster.

    Inside, the operator's sidecar fills in what stands in parentheses, and whom to ask is known.
    """
    text = CONFIGURATION.read_text().replace("$(SHARD)", "0").replace("$(POD_NAME)", "test")
    document = yaml.safe_load(text)
    for job in document["scrape_configs"]:
        for discovery in job["kubernetes_sd_configs"]:
            discovery["namespaces"] = {"names": [namespace]}
            discovery["api_server"] = plane.url
            discovery["authorization"] = {"credentials": plane.token}
            discovery["tls_config"] = {"ca_file": str(plane.authority)}
    return yaml.safe_dump(document)


def server(service: str, port_name: str = "metrics", port: int = 9100) -> dict[str, Any]:
    address = {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return {
        "containers": [
            python(
                METRICS,
                name=service,
                env=[address, {"name": "PORT", "value": str(port)}],
                ports=[{"name": port_name, "containerPort": port}],
                readinessProbe={"httpGet": {"path": "/", "port": port_name}},
            )
        ],
        "automountServiceAccountToken": False,
    }


@pytest.fixture
def cluster(control_plane: ControlPlane, node: Node, namespace: str) -> Iterator[Cluster]:
    cluster = Cluster(control_plane.api, namespace)
    yield cluster
    for pod in cluster.pods():
        cluster.delete("pods", pod["metadata"]["name"], grace=0)


def ask(url: str, query: str) -> list[dict[str, str]]:
    parameters = urllib.parse.urlencode({"query": query})
    result = get_json(f"{url}/api/v1/query?{parameters}")["data"]["result"]
    return [each["metric"] for each in result]


def test_the_configuration_was_made_of_the_pod_monitor_there_is() -> None:
    made_of = CONFIGURATION.with_name("request.json")
    assert json.loads(made_of.read_text()) == request()


def test_the_pods_of_the_service_are_scraped_under_its_name_and_no_other_pod_is(
    cluster: Cluster, control_plane: ControlPlane, tools: Tools, tmp_path: Path
) -> None:
    labels = {NAME: SERVICE, "app.kubernetes.io/part-of": "learning-platform"}
    for name in ("exporter-a", "exporter-b"):
        cluster.run(name, server(SERVICE), **labels)
    cluster.run("scheduler", server("scheduler"), **{NAME: "scheduler"})
    # Of the service, but not on the port that is named `metrics`; and one that has ended.
    cluster.run("exporter-c", server(SERVICE, port_name="http"), **labels)
    cluster.run("done", once(python("print()")), **labels)
    cluster.ended("done")
    for name in ("exporter-a", "exporter-b", "exporter-c", "scheduler"):
        wait_for(lambda name=name: is_ready(cluster.get("pods", name)))
    with running_prometheus(
        tools["prometheus"],
        tmp_path / "prometheus",
        configuration(control_plane, cluster.namespace),
    ) as url:
        found = wait_for(
            lambda: series if len(series := ask(url, "bullmq_queue_size")) >= 2 else None, 30
        )
        up = ask(url, "up")
    assert {each["pod"] for each in found} == {"exporter-a", "exporter-b"}
    assert {each["pod"] for each in up} == {"exporter-a", "exporter-b"}
    for each in found:
        assert each["job"] == SERVICE
        assert each["queue"] == "fsrs-optimization"
        assert each["namespace"] == cluster.namespace


if __name__ == "__main__":
    json.dump(request(), sys.stdout, indent=2, sort_keys=True)
    print()
