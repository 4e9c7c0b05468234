"""When an object counts as ready, and what is wrong with it until then, as in pulumi-kubernetes.

Jobs are awaited to their end, workloads until they are rolled out, Services until a pod stands
behind them; everything else is ready once it is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.stacks.kubernetes.api import Api, ApiError, Object

_INTERVAL = 0.2


class NotReadyError(Exception):
    """An object was made, and did not become ready; `reasons` say why."""

    def __init__(self, message: str, reasons: list[str]) -> None:
        super().__init__(message)
        self.reasons = reasons


@dataclass
class State:
    """How far an object is. `failed` says that waiting longer is of no use."""

    ready: bool
    waiting_for: str = ""
    problems: list[str] = field(default_factory=list)
    failed: bool = False


def annotation(declared: Object, name: str) -> str:
    """Return an annotation of `pulumi.com`."""
    return declared.get("metadata", {}).get("annotations", {}).get(f"pulumi.com/{name}", "")


def skips_waiting(declared: Object) -> bool:
    """Tell whether the program asks not to wait."""
    return annotation(declared, "skipAwait") == "true"


def allowed_seconds(declared: Object, custom: float, default: float) -> float:
    """Return how long to wait: the resource's own timeout, its annotation, or the default."""
    if custom:
        return custom
    text = annotation(declared, "timeoutSeconds")
    return float(text) if text else default


def wait(
    api: Api,
    declared: Object,
    seconds: float,
    stopped: Callable[[], bool],
    report: Callable[[str], None],
) -> None:
    """Wait until an object is ready; `report` is told what is waited for.

    Raises NotReadyError when it fails, takes longer, or the update is cancelled.
    """
    until = time.monotonic() + seconds
    problems: dict[str, None] = {}
    told = ""
    while True:
        state = state_of(api, api.get(declared))
        if state.ready:
            return
        # A pod that failed may be gone when its Job fails.
        problems.update(dict.fromkeys(state.problems))
        if state.waiting_for != told:
            told = state.waiting_for
            report(told)
        full_name = fully_named(declared)
        if state.failed:
            raise NotReadyError(f"{full_name} failed", list(problems))
        if stopped():
            raise NotReadyError(f"{full_name}: the wait was cancelled", list(problems))
        if time.monotonic() > until:
            waited = f"{full_name}: timed out after {seconds:.0f} s: {state.waiting_for}"
            raise NotReadyError(waited, list(problems))
        time.sleep(_INTERVAL)


def wait_until_gone(
    api: Api, declared: Object, uid: str, seconds: float, stopped: Callable[[], bool]
) -> None:
    """Wait until an object that is being deleted is gone; raises NotReadyError."""
    until = time.monotonic() + seconds
    while True:
        try:
            live = api.get(declared)
        except ApiError as error:
            if error.status == 404:
                return
            raise
        if live["metadata"]["uid"] != uid:
            return
        if stopped() or time.monotonic() > until:
            held = live["metadata"].get("finalizers") or live.get("spec", {}).get("finalizers")
            raise NotReadyError(f"{fully_named(declared)} still exists", [f"held by {held}"])
        time.sleep(_INTERVAL)


def fully_named(declared: Object) -> str:
    """Return the name of an object with its namespace, as an id has it."""
    metadata = declared.get("metadata", {})
    namespace = metadata.get("namespace", "")
    return f"{namespace}/{metadata['name']}" if namespace else metadata["name"]


def state_of(api: Api, live: Object) -> State:
    """Return how far an object is."""
    wanted = annotation(live, "waitFor")
    if wanted:
        return _wanted(live, wanted)
    match live["apiVersion"], live["kind"]:
        case "batch/v1", "Job":
            return _job(api, live)
        case "apps/v1", "Deployment":
            return _deployment(api, live)
        case "apps/v1", "StatefulSet":
            return _stateful_set(api, live)
        case "apps/v1", "DaemonSet":
            return _daemon_set(api, live)
        case "v1", "Pod":
            return _pod(live)
        case "v1", "Service":
            return _service(api, live)
        case _:
            return State(ready=True)


def _condition(live: Object, type_: str) -> Object:
    conditions = live.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == type_), {})


def _is_true(live: Object, type_: str) -> bool:
    return _condition(live, type_).get("status") == "True"


def _job(api: Api, live: Object) -> State:
    if _is_true(live, "Complete"):
        return State(ready=True)
    status = live.get("status", {})
    counts = " | ".join(f"{key}: {status.get(key.lower(), 0)}" for key in _JOB_COUNTS)
    waiting = f'Waiting for Job "{fully_named(live)}" to succeed ({counts})'
    problems = _pod_problems(api, live, f"batch.kubernetes.io/job-name={live['metadata']['name']}")
    failure = _condition(live, "Failed")
    if failure.get("status") == "True":
        problems.append(f"[{failure.get('reason')}] {failure.get('message')}")
        return State(False, waiting, problems, failed=True)
    return State(False, waiting, problems)


_JOB_COUNTS = ("Active", "Succeeded", "Failed")


def _deployment(api: Api, live: Object) -> State:
    status, wanted = live.get("status", {}), live["spec"].get("replicas", 1)
    updated = status.get("updatedReplicas", 0)
    waiting = f"Waiting for app ReplicaSet to be available ({updated}/{wanted} Pods available)"
    if status.get("observedGeneration", 0) < live["metadata"]["generation"]:
        return State(False, waiting)
    if (
        updated >= wanted
        and status.get("replicas", 0) <= updated
        and status.get("availableReplicas", 0) >= updated
        and (_is_true(live, "Available") or not wanted)
    ):
        return State(ready=True)
    problems = _pod_problems(api, live, _selector(live))
    refused = _condition(live, "ReplicaFailure")
    if refused.get("status") == "True":
        # Of no use to wait for: admission says the same to every pod of this template.
        problems.append(f"[{refused.get('reason')}] {refused.get('message')}")
        return State(False, waiting, problems, failed="forbidden" in refused.get("message", ""))
    progress = _condition(live, "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        problems.append(f"[ProgressDeadlineExceeded] {progress.get('message')}")
        return State(False, waiting, problems, failed=True)
    return State(False, waiting, problems)


def _stateful_set(api: Api, live: Object) -> State:
    status, wanted = live.get("status", {}), live["spec"].get("replicas", 1)
    current = status.get("currentRevision") == status.get("updateRevision")
    ready = status.get("readyReplicas", 0)
    if current and ready == wanted and status.get("observedGeneration"):
        return State(ready=True)
    waiting = f"Waiting for StatefulSet to be ready ({ready}/{wanted} Pods)"
    return State(False, waiting, _pod_problems(api, live, _selector(live)))


def _daemon_set(api: Api, live: Object) -> State:
    status = live.get("status", {})
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    seen = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
    if seen and ready == wanted and status.get("updatedNumberScheduled", 0) == wanted:
        return State(ready=True)
    waiting = f"Waiting for DaemonSet to be ready ({ready}/{wanted} Pods)"
    return State(False, waiting, _pod_problems(api, live, _selector(live)))


def _pod(live: Object) -> State:
    if _is_true(live, "Ready") or live.get("status", {}).get("phase") == "Succeeded":
        return State(ready=True)
    failed = live.get("status", {}).get("phase") == "Failed"
    return State(False, f'Waiting for Pod "{fully_named(live)}"', _problems_of(live), failed)


def _service(api: Api, live: Object) -> State:
    spec = live["spec"]
    alone = not spec.get("selector") or spec.get("clusterIP") == "None"
    if alone or spec.get("type") == "ExternalName":
        return State(ready=True)
    slices = api.list(
        api.kind("discovery.k8s.io/v1", "EndpointSlice"),
        live["metadata"]["namespace"],
        f"kubernetes.io/service-name={live['metadata']['name']}",
    )
    ready = [
        endpoint
        for each in slices
        for endpoint in each.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready")
    ]
    missing = (
        "Service does not target any Pods. Selected Pods may not be ready, or field "
        "'.spec.selector' may not match labels on any Pods"
    )
    return State(bool(ready), "Finding Pods to direct traffic to", [] if ready else [missing])


def _wanted(live: Object, wanted: str) -> State:
    """Return whether the condition of `pulumi.com/waitFor` holds: a condition, or a simple path."""
    kind, _, rest = wanted.partition("=")
    waiting = f'Waiting for "{wanted}"'
    if kind == "condition":
        type_, _, status = rest.partition("=")
        return State(_condition(live, type_).get("status") == (status or "True"), waiting)
    if kind != "jsonpath":
        raise NotReadyError(f"pulumi.com/waitFor is neither condition= nor jsonpath=: {wanted}", [])
    path, _, value = rest.partition("}=")
    found: object = live
    for part in path.strip("{}.").split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return State(found is not None and (not value or str(found) == value), waiting)


def _selector(live: Object) -> str:
    labels = live["spec"]["selector"].get("matchLabels", {})
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _pod_problems(api: Api, live: Object, selector: str) -> list[str]:
    pods = api.list(api.kind("v1", "Pod"), live["metadata"]["namespace"], selector)
    return [problem for pod in pods for problem in _problems_of(pod)]


def _problems_of(pod: Object) -> list[str]:
    """Return what the containers of a pod say of themselves: why they wait, or how they ended."""
    found: list[str] = []
    statuses = pod.get("status", {})
    for status in [
        *statuses.get("initContainerStatuses", []),
        *statuses.get("containerStatuses", []),
    ]:
        if status.get("ready"):
            continue
        waiting = status.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") != "ContainerCreating":
            found.append(f"[{waiting.get('reason')}] {waiting.get('message', '')}")
        for ended in (
            status.get("state", {}).get("terminated"),
            status.get("lastState", {}).get("terminated"),
        ):
            if ended and ended.get("exitCode"):
                text = ended.get("message") or f"exit code {ended['exitCode']}"
                found.append(f"[{ended.get('reason')}] {text}")
    return [f"[Pod {fully_named(pod)}]: {problem}" for problem in found]
