"""Running a Job outside of the engine's plan, through the API of the cluster."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# The Kubernetes client comes without types.

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

PATIENCE_SECONDS = 6 * 3600
_POLLED_EVERY = 1.0


class JobError(Exception):
    """A Job has failed, or did not end; the message has the end of its log."""


async def run_job(kubeconfig: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Create a Job through the API and wait for its end.

    A Job of the same name, of an earlier try, makes room for it. Raises JobError with the end of
    the log if it fails.
    """
    await asyncio.to_thread(_run_job, kubeconfig, manifest)


def _run_job(kubeconfig: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    # The client takes a second to load, and only this needs it.
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException

    connection = config.new_client_from_config_dict(dict(kubeconfig))
    batch: Any = client.BatchV1Api(connection)
    core: Any = client.CoreV1Api(connection)
    name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    deadline = time.monotonic() + PATIENCE_SECONDS

    def gone() -> bool:
        try:
            batch.read_namespaced_job(name, namespace)
        except ApiException as error:
            return error.status == 404
        return False

    if not gone():
        batch.delete_namespaced_job(name, namespace, propagation_policy="Background")
        while not gone():
            _wait(deadline, name)
    batch.create_namespaced_job(namespace, dict(manifest))
    while True:
        status = batch.read_namespaced_job_status(name, namespace).status
        finished = {each.type for each in status.conditions or [] if each.status == "True"}
        if "Complete" in finished:
            return
        if "Failed" in finished:
            pods = core.list_namespaced_pod(namespace, label_selector=f"job-name={name}").items
            raise JobError(f"{name} failed:\n{_log_tail(pods)}")
        _wait(deadline, name)


def _wait(deadline: float, name: str) -> None:
    if time.monotonic() > deadline:
        raise JobError(f"{name} has not ended within {PATIENCE_SECONDS} s")
    time.sleep(_POLLED_EVERY)


def _log_tail(pods: Sequence[Any]) -> str:
    """Return the termination message of the pod that ended last: the end of its log."""
    ended = [
        container.state.terminated
        for pod in pods
        for container in pod.status.container_statuses or []
        if container.state and container.state.terminated
    ]
    if not ended:
        return "no pod of it has left a message"
    last = max(ended, key=lambda each: each.finished_at)
    return (last.message or f"exit code {last.exit_code}").strip()
