"""Custom resources of the Prometheus operator: the rules of alerts/rules, and what is scraped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi_kubernetes import apiextensions, meta

from alerts.configuration import duration
from alerts.rule_file import read_rules
from stacks.kubernetes.prometheus_values import SELECTED

_API_VERSION = "monitoring.coreos.com/v1"
_LONGEST_SCRAPE_SECONDS = 10


def prometheus_rule(
    resource: str, path: Path, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> apiextensions.CustomResource:
    """Declare the rules of a file, as they stand there."""
    return apiextensions.CustomResource(
        resource,
        api_version=_API_VERSION,
        kind="PrometheusRule",
        metadata=_metadata(f"learning-platform-{path.stem}", namespace),
        spec=read_rules(path),
        opts=opts,
    )


def pod_monitor(
    resource: str,
    name: str,
    namespace: pulumi.Input[str],
    spec: Mapping[str, Any],
    opts: pulumi.ResourceOptions,
) -> apiextensions.CustomResource:
    """Declare what is scraped; `spec` is that of `pod_monitor_spec`."""
    return apiextensions.CustomResource(
        resource,
        api_version=_API_VERSION,
        kind="PodMonitor",
        metadata=_metadata(name, namespace),
        spec=spec,
        opts=opts,
    )


def pod_monitor_spec(service: str, scrape_seconds: float) -> dict[str, Any]:
    """Return the specification that scrapes the pods of a service on their port `metrics`.

    The label `job` is the service's name, as the rules and dashboards know it from every stack.
    """
    return {
        "jobLabel": "app.kubernetes.io/name",
        "selector": {"matchLabels": {"app.kubernetes.io/name": service}},
        "podMetricsEndpoints": [
            {
                "port": "metrics",
                "path": "/metrics",
                "interval": duration(scrape_seconds),
                "scrapeTimeout": duration(min(scrape_seconds, _LONGEST_SCRAPE_SECONDS)),
            }
        ],
    }


def _metadata(name: str, namespace: pulumi.Input[str]) -> meta.v1.ObjectMetaArgs:
    return meta.v1.ObjectMetaArgs(
        name=name,
        namespace=namespace,
        labels={"app.kubernetes.io/part-of": "learning-platform", **SELECTED},
    )
