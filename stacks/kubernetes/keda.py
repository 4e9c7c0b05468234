"""KEDA, which scales the workers on the size of their queues as Prometheus knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes import helm

from stacks.kubernetes import namespaces
from stacks.kubernetes.helm_releases import KEDA, release
from stacks.kubernetes.pods import RESTRICTED_CONTAINER


@dataclass(frozen=True)
class KedaArgs:
    """A `durable` one survives the loss of a node."""

    durable: bool
    protected: bool = False
    """Whether the engine refuses to take it away."""


class Keda(pulumi.ComponentResource):
    """KEDA in its namespace; ScaledObjects depend on `release`, which brings their definition."""

    release: helm.v3.Release

    def __init__(
        self, name: str, args: KedaArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:kubernetes:Keda", name, None, opts)
        children = pulumi.ResourceOptions(parent=self)
        own = namespaces.namespace(namespaces.KEDA, "restricted", children)
        self.release = release(
            name,
            KEDA,
            name="keda",
            namespace=own.metadata.name,
            values=keda_values(durable=args.durable),
            opts=pulumi.ResourceOptions(parent=self, protect=args.protected),
        )
        self.register_outputs({})


def keda_values(*, durable: bool) -> dict[str, Any]:
    """Return the values of KEDA's chart."""
    parts = ("operator", "metricServer", "webhooks")
    return {
        "operator": {"replicaCount": 2 if durable else 1},
        "metricsServer": {"replicaCount": 2 if durable else 1},
        "resources": {part: _RESOURCES[part] for part in parts},
        "podSecurityContext": {part: {"runAsNonRoot": True} for part in parts},
        "securityContext": dict.fromkeys(parts, _RESTRICTED),
        "podDisruptionBudget": {part: {"maxUnavailable": 1} for part in parts},
    }


_RESTRICTED = {**RESTRICTED_CONTAINER, "seccompProfile": {"type": "RuntimeDefault"}}
_RESOURCES = {
    "operator": {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"memory": "512Mi"},
    },
    "metricServer": {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"memory": "512Mi"},
    },
    "webhooks": {
        "requests": {"cpu": "10m", "memory": "32Mi"},
        "limits": {"memory": "128Mi"},
    },
}
