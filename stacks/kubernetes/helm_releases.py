"""The Helm charts of the cluster, with pinned versions, and how each is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes import helm

_INSTALL_SECONDS = 600
_REVISIONS_KEPT = 5


@dataclass(frozen=True)
class Chart:
    """One version of a chart in a repository."""

    repository: str
    name: str
    version: str


KUBE_PROMETHEUS_STACK = Chart(
    "https://prometheus-community.github.io/helm-charts",
    "kube-prometheus-stack",
    # With operator v0.85.0, whose resource definitions the tests check ours against.
    "77.6.0",
)
CLOUDWATCH_EXPORTER = Chart(
    "https://prometheus-community.github.io/helm-charts",
    "prometheus-yet-another-cloudwatch-exporter",
    "0.50.0",
)
KEDA = Chart("https://kedacore.github.io/charts", "keda", "2.21.0")


def release(
    resource: str,
    chart: Chart,
    *,
    name: str,
    namespace: pulumi.Input[str],
    values: Mapping[str, Any],
    opts: pulumi.ResourceOptions,
) -> helm.v3.Release:
    """Declare a release called `name`; one that fails is rolled back, and fails the update.

    Values are readable in the state and in the cluster, so a secret belongs into a Secret that
    they name.
    """
    return helm.v3.Release(
        resource,
        helm.v3.ReleaseArgs(
            name=name,
            chart=chart.name,
            version=chart.version,
            repository_opts=helm.v3.RepositoryOptsArgs(repo=chart.repository),
            namespace=namespace,
            values=values,
            atomic=True,
            cleanup_on_fail=True,
            max_history=_REVISIONS_KEPT,
            timeout=_INSTALL_SECONDS,
        ),
        opts,
    )
