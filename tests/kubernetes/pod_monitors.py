"""What Prometheus is told of our PodMonitors, for one that runs outside of the cluster.

The configuration is the operator's own: operator/prometheus.yml is what its generator (v0.85.0,
tools/prometheus-operator) makes of prod's PodMonitors. `python -m tests.kubernetes.pod_monitors`
prints what it was given.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from stacks.kubernetes.namespaces import APPLICATIONS, MONITORING
from stacks.kubernetes.prometheus_resources import pod_monitor_spec
from tests.alerts.monitoring_servers import ask_prometheus
from tests.kubernetes.control_plane import ControlPlane

CONFIGURATION = Path(__file__).resolve().parent / "operator" / "prometheus.yml"
SERVICES = ("complexity", "exporter", "fsrs-optimization", "scheduler")
SCRAPE_SECONDS = 15

_QUICK = "1s"


def request() -> dict[str, Any]:
    """Return what the operator is given: a Prometheus, and the PodMonitors of our services."""
    metadata = {"name": "prometheus", "namespace": MONITORING}
    return {
        "prometheus": {
            "metadata": metadata,
            "spec": {"scrapeInterval": "30s", "evaluationInterval": "1s"},
        },
        "podMonitors": [
            {
                "metadata": {"name": service, "namespace": APPLICATIONS},
                "spec": pod_monitor_spec(service, SCRAPE_SECONDS),
            }
            for service in SERVICES
        ],
    }


def configuration(plane: ControlPlane, namespace: str = APPLICATIONS) -> str:
    """Return the operator's configuration for a Prometheus outside of the cluster, and quicker.

    Inside, the operator's sidecar fills in what stands in parentheses, and whom to ask is known.
    """
    text = CONFIGURATION.read_text().replace("$(SHARD)", "0").replace("$(POD_NAME)", "test")
    document = yaml.safe_load(text)
    for job in document["scrape_configs"]:
        job |= {"scrape_interval": _QUICK, "scrape_timeout": _QUICK}
        for discovery in job["kubernetes_sd_configs"]:
            discovery["namespaces"] = {"names": [namespace]}
            discovery["api_server"] = plane.url
            discovery["authorization"] = {"credentials": plane.token}
            discovery["tls_config"] = {"ca_file": str(plane.authority)}
    return yaml.safe_dump(document)


def ask(url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """Return the series that answer a query, each with its value."""
    result = ask_prometheus(url, query)
    return [(each["metric"], float(each["value"][1])) for each in result]


if __name__ == "__main__":
    json.dump(request(), sys.stdout, indent=2, sort_keys=True)
    print()
