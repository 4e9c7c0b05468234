"""Rules for Kubernetes: pods that are restricted, limited, and of a known image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stacks.policies.rule import UNKNOWN, Resource, Surroundings, known_list, known_map, rule

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")

WORKLOADS = {
    "kubernetes:apps/v1:DaemonSet": ("spec", "template", "spec"),
    "kubernetes:apps/v1:Deployment": ("spec", "template", "spec"),
    "kubernetes:apps/v1:StatefulSet": ("spec", "template", "spec"),
    "kubernetes:batch/v1:CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "kubernetes:batch/v1:Job": ("spec", "template", "spec"),
    "kubernetes:core/v1:Pod": ("spec",),
}
"""Where each kind of workload has its pod's specification."""


def pod_of(resource: Resource) -> Mapping[str, Any]:
    """Return the specification of a workload's pod, as far as it is known."""
    found = resource.inputs
    for key in WORKLOADS[resource.type]:
        found = known_map(found.get(key))
    return found


def containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the containers of a pod that are known."""
    for key in ("initContainers", "containers"):
        for container in known_list(pod.get(key)):
            if container is not UNKNOWN:
                yield container


@rule("limits", "every container has requests and a memory limit", *WORKLOADS)
def limits(resource: Resource, _: Surroundings) -> Iterator[str]:
    for container in containers(pod_of(resource)):
        if container.get("resources") is UNKNOWN:
            continue
        resources = known_map(container.get("resources"))
        for key in ("cpu", "memory"):
            if not known_map(resources.get("requests")).get(key):
                yield f"{container.get('name')} has no request of {key}"
        if not known_map(resources.get("limits")).get("memory"):
            yield f"{container.get('name')} has no limit of memory"


@rule("known-image", "an image is named by its digest, which no push changes", *WORKLOADS)
def known_image(resource: Resource, _: Surroundings) -> Iterator[str]:
    for container in containers(pod_of(resource)):
        image = container.get("image")
        if isinstance(image, str) and not _DIGEST.search(image):
            yield f"{container.get('name')} runs {image}"


@rule("restricted-pod", "pods meet the standard `restricted`, their root read-only", *WORKLOADS)
def restricted_pod(resource: Resource, _: Surroundings) -> Iterator[str]:
    pod = pod_of(resource)
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is set"
    if any("hostPath" in volume for volume in known_list(pod.get("volumes"))):
        yield "has a volume of hostPath"
    if pod.get("securityContext") is UNKNOWN:
        return
    common = known_map(pod.get("securityContext"))
    for container in containers(pod):
        if container.get("securityContext") is UNKNOWN:
            continue
        name, context = container.get("name"), known_map(container.get("securityContext"))
        if (context.get("runAsNonRoot", common.get("runAsNonRoot"))) is not True:
            yield f"{name} may run as root"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name} may write to its root"
        if "ALL" not in known_list(known_map(context.get("capabilities")).get("drop")):
            yield f"{name} keeps capabilities"
        profile = known_map(context.get("seccompProfile") or common.get("seccompProfile"))
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccomp profile"


RULES = (limits, known_image, restricted_pod)
