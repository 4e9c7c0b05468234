"""Objects for the tests of the stand-ins: small, and as the restricted standard wants them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.kubernetes.api import Api, ApiError, Object

Found = TypeVar("Found")


class Cluster:
    """What a test does in its namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def path(self, plural: str, name: str = "") -> str:
        groups = {"jobs": "apis/batch/v1", "deployments": "apis/apps/v1"}
        group = groups.get(plural, "api/v1")
        return f"/{group}/namespaces/{self.namespace}/{plural}/{name}".rstrip("/")

    def create(self, plural: str, name: str, **contents: Any) -> Object:
        metadata = {"name": name}
        return self.api.create(self.path(plural), {"metadata": metadata, **contents})

    def get(self, plural: str, name: str) -> Object:
        return self.api.get(self.path(plural, name))

    def delete(self, plural: str, name: str, grace: int | None = None) -> None:
        options: Object = {"propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        self.api.delete(self.path(plural, name), options)

    def exists(self, plural: str, name: str) -> bool:
        try:
            self.get(plural, name)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def pods(self, **labels: str) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return self.api.get(f"{self.path('pods')}?labelSelector={selector}")["items"]

    def run(self, name: str, spec: Object, **labels: str) -> Object:
        """Create a pod."""
        metadata = {"name": name, "labels": labels}
        return self.api.create(self.path("pods"), {"metadata": metadata, "spec": spec})

    def ended(self, name: str, seconds: float = 20) -> Object:
        """Return a pod when it has ended for good."""

        def end() -> Object | None:
            pod = self.get("pods", name)
            return pod if pod["status"].get("phase") in ("Succeeded", "Failed") else None

        return wait_for(end, seconds)


def wait_for(condition: Callable[[], Found | None], seconds: float = 20) -> Found:
    """Return what the condition gives as soon as that is something; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {seconds} s")
        time.sleep(0.05)
    return found


def container(*arguments: str, name: str = "main", **more: Any) -> Object:
    """Return a container that runs a Python program given as text, or else a command."""
    return {
        "name": name,
        "image": "registry.example/program@sha256:0",
        "command": list(arguments),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **more,
    }


def python(program: str, **more: Any) -> Object:
    """Return a container that runs a Python program."""
    return container("python", "-u", "-c", program, **more)


def once(*containers: Object, **more: Any) -> Object:
    """Return the spec of a pod that runs to its end."""
    return {
        "containers": list(containers),
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        **more,
    }


def states(pod: Object, kind: str = "containerStatuses") -> Sequence[Object]:
    """Return the states of a pod's containers."""
    return [each["state"] for each in pod["status"].get(kind, [])]


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
