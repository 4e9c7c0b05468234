# ruff: noqa: ARG002, the signatures are given
"""When an object counts as ready, and what is said of one that is not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.stacks.kubernetes.api import Api, Kind, Object
from tests.stacks.kubernetes.awaiting import NotReadyError, allowed_seconds, state_of, wait

JOB: Object = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "step", "namespace": "n", "generation": 1},
    "spec": {},
}
DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "n", "generation": 2},
    "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}},
}
ROLLED_OUT = {
    "observedGeneration": 2,
    "replicas": 2,
    "updatedReplicas": 2,
    "availableReplicas": 2,
    "conditions": [{"type": "Available", "status": "True"}],
}


class Objects:
    """A server that has one object, as it is at each look, and pods."""

    def __init__(self, looks: list[Object], pods: list[Object]) -> None:
        self.looks, self.pods = looks, pods

    def get(self, declared: Object) -> Object:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def kind(self, api_version: str, kind: str) -> Kind:
        return Kind(api_version, kind, f"{kind.lower()}s", namespaced=True)

    def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Object]:
        return self.pods


def server(*looks: Object, pods: list[Object] | None = None) -> Api:
    return cast("Api", Objects(list(looks), pods or []))


def with_status(live: Object, **status: Any) -> Object:
    return {**live, "status": status}


def failed_pod(message: str) -> Object:
    ended = {"exitCode": 1, "reason": "Error", "message": message}
    return {
        "metadata": {"name": "step-1", "namespace": "n"},
        "status": {"containerStatuses": [{"name": "c", "state": {"terminated": ended}}]},
    }


def test_a_job_is_awaited_to_its_end_and_its_progress_told() -> None:
    done = with_status(JOB, conditions=[{"type": "Complete", "status": "True"}])
    told: list[str] = []
    wait(server(JOB, with_status(JOB, active=1), done), JOB, 9, lambda: False, told.append)
    assert told[-1] == 'Waiting for Job "n/step" to succeed (Active: 1 | Succeeded: 0 | Failed: 0)'


def test_a_failed_job_is_told_with_the_end_of_its_log() -> None:
    condition = {
        "type": "Failed",
        "status": "True",
        "reason": "BackoffLimitExceeded",
        "message": "too often",
    }
    failed = with_status(JOB, conditions=[condition])
    api = server(JOB, failed, pods=[failed_pod("the disk is full")])
    with pytest.raises(NotReadyError, match="n/step failed") as caught:
        wait(api, JOB, 9, lambda: False, lambda _: None)
    assert caught.value.reasons == [
        "[Pod n/step-1]: [Error] the disk is full",
        "[BackoffLimitExceeded] too often",
    ]


@pytest.mark.parametrize(
    ("changed", "ready"),
    [
        ({}, True),
        ({"observedGeneration": 1}, False),
        ({"updatedReplicas": 1}, False),
        ({"replicas": 3}, False),
        ({"availableReplicas": 1}, False),
        ({"conditions": [{"type": "Available", "status": "False"}]}, False),
    ],
)
def test_a_deployment_is_ready_once_only_its_new_pods_are_left_and_available(
    changed: dict[str, Any], ready: bool
) -> None:
    live = with_status(DEPLOYMENT, **{**ROLLED_OUT, **changed})
    assert state_of(server(live), live).ready is ready


def test_what_admission_forbids_is_not_waited_for() -> None:
    refused = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "is forbidden: exceeded quota",
    }
    live = with_status(DEPLOYMENT, observedGeneration=2, conditions=[refused])
    state = state_of(server(live), live)
    assert state.failed
    assert state.problems == ["[FailedCreate] is forbidden: exceeded quota"]
    # That of the template before says nothing of this one.
    earlier = with_status(DEPLOYMENT, observedGeneration=1, conditions=[refused])
    assert not state_of(server(earlier), earlier).failed


def test_waiting_ends_in_time_and_when_it_is_cancelled() -> None:
    with pytest.raises(NotReadyError, match="timed out after 0 s"):
        wait(server(JOB), JOB, 0, lambda: False, lambda _: None)
    with pytest.raises(NotReadyError, match="cancelled"):
        wait(server(JOB), JOB, 9, lambda: True, lambda _: None)


@pytest.mark.parametrize(
    ("wanted", "ready"),
    [
        ("condition=Synced", True),
        ("condition=Synced=False", False),
        ("jsonpath={.status.phase}=Bound", True),
        ("jsonpath={.status.phase}", True),
        ("jsonpath={.status.other}", False),
    ],
)
def test_what_an_annotation_waits_for(wanted: str, ready: bool) -> None:
    live: Object = {
        "apiVersion": "v1",
        "kind": "Thing",
        "metadata": {"name": "a", "annotations": {"pulumi.com/waitFor": wanted}},
        "status": {"phase": "Bound", "conditions": [{"type": "Synced", "status": "True"}]},
    }
    assert state_of(server(live), live).ready is ready


def test_a_resources_own_timeout_comes_before_its_annotation() -> None:
    annotated = {"metadata": {"annotations": {"pulumi.com/timeoutSeconds": "30"}}}
    assert allowed_seconds(annotated, 60, 600) == 60
    assert allowed_seconds(annotated, 0, 600) == 30
    assert allowed_seconds({}, 0, 600) == 600
