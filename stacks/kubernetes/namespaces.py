"""Namespaces, each with the pod security standard that its pods are held to."""

from __future__ import annotations

from typing import Literal

import pulumi
from pulumi_kubernetes.core.v1 import Namespace

APPLICATIONS = "learning-platform"
MONITORING = "monitoring"
KEDA = "keda"

PART_OF = "learning-platform"

Standard = Literal["privileged", "baseline", "restricted"]


def namespace(name: str, standard: Standard, opts: pulumi.ResourceOptions) -> Namespace:
    """Declare a namespace where pods below `standard` are refused."""
    return Namespace(
        f"namespace-{name}",
        metadata={
            "name": name,
            "labels": {
                "app.kubernetes.io/part-of": PART_OF,
                **{
                    f"pod-security.kubernetes.io/{mode}": standard
                    for mode in ("enforce", "audit", "warn")
                },
            },
        },
        opts=opts,
    )
