"""The one template of all our pods: restricted, limited, without a token of the cluster's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi

from stacks.kubernetes.namespaces import PART_OF
from stacks.kubernetes.sizes import Size

USER = 65532
"""The image's user, as its Dockerfile has it."""

DIRECTORY = "/application"
"""Where the image has the project."""

METRICS_PORT = 9100

RESTRICTED_CONTAINER: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""The security context of a container that needs nothing, ours or a chart's."""

NAME = "app.kubernetes.io/name"

_PROBED_EVERY = 10


@dataclass(frozen=True)
class SecretKey:
    """A value in a Kubernetes Secret."""

    secret: str
    key: str


@dataclass(frozen=True)
class PodArgs:
    """A pod of one container, which runs the image's Python with `arguments`.

    `environment` is for everybody's eyes, `secrets` maps a variable to where its value lies.
    A `serving` pod answers /healthz, /readyz and /metrics. `annotations` restart it when changed.
    """

    name: str
    image: pulumi.Input[str]
    arguments: Sequence[str]
    service_account: str
    size: Size
    environment: Mapping[str, pulumi.Input[str]] = field(
        default_factory=dict[str, pulumi.Input[str]]
    )
    secrets: Mapping[str, SecretKey] = field(default_factory=dict[str, SecretKey])
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    serving: bool = False
    stop_seconds: int = 30
    restart_policy: Literal["Always", "Never"] = "Always"


def labels(name: str) -> dict[str, str]:
    """Return the labels of everything that belongs to the program `name`."""
    return {NAME: name, "app.kubernetes.io/part-of": PART_OF}


def pod_template(args: PodArgs) -> dict[str, Any]:
    """Return the template of a Deployment's or Job's pods."""
    metadata: dict[str, Any] = {"labels": labels(args.name)}
    if args.annotations:
        metadata["annotations"] = dict(args.annotations)
    spec: dict[str, Any] = {
        "serviceAccountName": args.service_account,
        # None of ours talks to the cluster; pod identity brings a token of its own.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": args.restart_policy,
        "terminationGracePeriodSeconds": args.stop_seconds,
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(args)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    if args.serving:
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {NAME: args.name}},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    return {"metadata": metadata, "spec": spec}


def _container(args: PodArgs) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": args.name,
        "image": args.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python"],
        "args": list(args.arguments),
        "workingDir": DIRECTORY,
        "env": _environment(args),
        "resources": args.size.resources(),
        "securityContext": dict(RESTRICTED_CONTAINER),
        # The end of the log of what fails: Pulumi shows it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108, in the container
    }
    if args.serving:
        container["ports"] = [{"name": "metrics", "containerPort": METRICS_PORT}]
        # Imports and the first connections take their time.
        container["startupProbe"] = _probe("/healthz", period=2, failures=60)
        container["livenessProbe"] = _probe("/healthz", period=_PROBED_EVERY, failures=6)
        container["readinessProbe"] = _probe("/readyz", period=_PROBED_EVERY, failures=3)
    return container


def _environment(args: PodArgs) -> list[dict[str, Any]]:
    """Return the variables by name, so that their order does not change."""
    variables: dict[str, dict[str, Any]] = {
        name: {"value": value} for name, value in args.environment.items()
    }
    if args.serving:
        variables["METRICS_HOST"] = {
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}
        }
        variables["METRICS_PORT"] = {"value": str(METRICS_PORT)}
    for name, secret in args.secrets.items():
        variables[name] = {
            "valueFrom": {"secretKeyRef": {"name": secret.secret, "key": secret.key}}
        }
    return [{"name": name, **variables[name]} for name in sorted(variables)]


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }
