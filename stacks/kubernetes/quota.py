"""What a namespace may use at most, and what a container gets that does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import LimitRange, ResourceQuota

from stacks.kubernetes.namespaces import PART_OF
from stacks.kubernetes.sizes import Size

CONCURRENT_STEPS = 4
"""Steps, undone steps and maintenance that may be there at once."""


def bounded(
    namespace: str, sizes: Mapping[str, Size], opts: pulumi.ResourceOptions
) -> list[pulumi.Resource]:
    """Declare the bounds of a namespace that holds programs of `sizes`."""
    quota, limits = resource_quota(namespace, sizes), limit_range(namespace, sizes)
    return [
        ResourceQuota(
            f"quota-{namespace}", metadata=quota["metadata"], spec=quota["spec"], opts=opts
        ),
        LimitRange(
            f"limits-{namespace}", metadata=limits["metadata"], spec=limits["spec"], opts=opts
        ),
    ]


def resource_quota(namespace: str, sizes: Mapping[str, Size]) -> dict[str, Any]:
    """Return the quota: every program at its most, twice, for a rollout of all of them."""
    pods = {
        name: CONCURRENT_STEPS if name == "steps" else 2 * size.maximum
        for name, size in sizes.items()
    }
    cpu = sum(count * sizes[name].cpu for name, count in pods.items())
    memory = f"{sum(count * sizes[name].memory for name, count in pods.items())}Mi"
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": _metadata(namespace),
        "spec": {
            "hard": {
                # Pods that have ended, as those of steps, are not counted.
                "pods": str(sum(pods.values())),
                "requests.cpu": f"{cpu}m",
                "requests.memory": memory,
                "limits.memory": memory,
                "services.loadbalancers": "0",
                "services.nodeports": "0",
                "persistentvolumeclaims": "0",
            }
        },
    }


def limit_range(namespace: str, sizes: Mapping[str, Size]) -> dict[str, Any]:
    """Return the limits: small defaults, and no container larger than the largest of ours."""
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": _metadata(namespace),
        "spec": {
            "limits": [
                {
                    "type": "Container",
                    "defaultRequest": {"cpu": "50m", "memory": "64Mi"},
                    "default": {"memory": "128Mi"},
                    "max": {"memory": f"{max(size.memory for size in sizes.values())}Mi"},
                }
            ]
        },
    }


def _metadata(namespace: str) -> dict[str, Any]:
    return {
        "name": "bounds",
        "namespace": namespace,
        "labels": {"app.kubernetes.io/part-of": PART_OF},
    }
