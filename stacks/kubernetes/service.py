"""A service of ours in the cluster: its Deployment, and what keeps disruptions gentle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from stacks.kubernetes.pods import NAME, PodArgs, labels, pod_template
from stacks.kubernetes.sizes import Size


@dataclass(frozen=True)
class DeploymentArgs:
    """`pod.name` is the service's name; a `durable` one is not deleted by mistake."""

    namespace: str
    pod: PodArgs
    durable: bool = False


class DeployedService(pulumi.ComponentResource):
    """A Deployment that is done when its new pods are ready, with a disruption budget."""

    def __init__(
        self, name: str, args: DeploymentArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:kubernetes:Service", name, None, opts)
        children = pulumi.ResourceOptions(parent=self)
        budget = disruption_budget(args.namespace, args.pod.name)
        deployed = deployment(args)
        self.deployment = Deployment(
            name,
            metadata=deployed["metadata"],
            spec=deployed["spec"],
            opts=pulumi.ResourceOptions(parent=self, protect=args.durable),
        )
        PodDisruptionBudget(name, metadata=budget["metadata"], spec=budget["spec"], opts=children)
        self.register_outputs({})


def deployment(args: DeploymentArgs) -> dict[str, Any]:
    """Return the Deployment; the replicas of a scaled one are left to its autoscaler."""
    size: Size = args.pod.size
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {NAME: args.pod.name}},
        "revisionHistoryLimit": 5,
        "progressDeadlineSeconds": 600,
        # A new pod works before an old one drains.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
        },
        "template": pod_template(args.pod),
    }
    if not size.scaled:
        spec["replicas"] = size.minimum
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": args.pod.name,
            "namespace": args.namespace,
            "labels": labels(args.pod.name),
        },
        "spec": spec,
    }


def disruption_budget(namespace: str, service: str) -> dict[str, Any]:
    """Return the budget: nodes are emptied one of the service's pods at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": service, "namespace": namespace, "labels": labels(service)},
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {NAME: service}},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
