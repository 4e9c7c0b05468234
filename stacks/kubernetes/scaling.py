"""Scaling of a worker on the size of its queue, by KEDA, as Prometheus knows it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource

from stacks.kubernetes.pods import labels
from stacks.kubernetes.sizes import Size

_POLLED_EVERY = 15
_SCALE_IN_AFTER = 300


@dataclass(frozen=True)
class ScalingArgs:
    """`service` is the worker's Deployment and the name of its queue, `prometheus` a URL."""

    namespace: str
    service: str
    prometheus: str
    size: Size
    pause_scale_in: bool = False


def scaling(name: str, args: ScalingArgs, opts: pulumi.ResourceOptions) -> CustomResource:
    """Declare the scaling of a worker."""
    manifest = scaled_object(args)
    return CustomResource(
        name,
        api_version=manifest["apiVersion"],
        kind=manifest["kind"],
        metadata=manifest["metadata"],
        spec=manifest["spec"],
        opts=opts,
    )


def query(queue: str) -> str:
    """Return how many jobs of a queue are still to be done: every exporter says the same."""
    return f'max(bullmq_queue_size{{queue="{queue}"}})'


def replicas(jobs: float, size: Size) -> int:
    """Return how many pods so many jobs call for, as the autoscaler reckons."""
    return min(size.maximum, max(size.minimum, math.ceil(jobs / size.jobs_per_replica)))


def scaled_object(args: ScalingArgs) -> dict[str, Any]:
    """Return the ScaledObject: out at once, in one pod at a time and only after a while.

    While Prometheus does not answer, there are as many pods as there were, and one at least.
    """
    annotations = {"autoscaling.keda.sh/paused-scale-in": "true"} if args.pause_scale_in else None
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {
            "name": args.service,
            "namespace": args.namespace,
            "labels": labels(args.service),
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": args.service},
            "minReplicaCount": args.size.minimum,
            "maxReplicaCount": args.size.maximum,
            "pollingInterval": _POLLED_EVERY,
            "cooldownPeriod": _SCALE_IN_AFTER,
            "fallback": {
                "failureThreshold": 3,
                "replicas": max(1, args.size.minimum),
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {
                "horizontalPodAutoscalerConfig": {
                    "behavior": {
                        "scaleUp": {
                            "stabilizationWindowSeconds": 0,
                            "policies": [
                                {"type": "Percent", "value": 100, "periodSeconds": 30},
                                {"type": "Pods", "value": 2, "periodSeconds": 30},
                            ],
                            "selectPolicy": "Max",
                        },
                        "scaleDown": {
                            "stabilizationWindowSeconds": _SCALE_IN_AFTER,
                            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                        },
                    }
                }
            },
            "triggers": [
                {
                    "type": "prometheus",
                    "name": "queue-size",
                    "metricType": "AverageValue",
                    "metadata": {
                        "serverAddress": args.prometheus,
                        "query": query(args.service),
                        "threshold": str(args.size.jobs_per_replica),
                        "activationThreshold": "0",
                        # No answer is no empty queue.
                        "ignoreNullValues": "false",
                    },
                }
            ],
        },
    }
