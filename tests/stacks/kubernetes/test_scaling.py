"""Scaling: how many pods so many jobs call for, and how the autoscaler is told."""

from __future__ import annotations

import pytest

from stacks.kubernetes.scaling import ScalingArgs, replicas, scaled_object
from stacks.kubernetes.sizes import Size
from tests.stacks.custom_resources import problems

SIZE = Size(1000, 512, minimum=2, maximum=12, jobs_per_replica=100)
ARGS = ScalingArgs("apps", "fsrs-optimization", "http://prometheus.test:9090", SIZE)


@pytest.mark.parametrize(
    ("jobs", "pods"), [(0, 2), (200, 2), (201, 3), (1000, 10), (1001, 11), (50_000, 12)]
)
def test_there_is_a_pod_for_so_many_jobs_within_the_bounds(jobs: int, pods: int) -> None:
    assert replicas(jobs, SIZE) == pods


def test_what_is_declared_says_the_same() -> None:
    spec = scaled_object(ARGS)["spec"]
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["query"] == 'max(bullmq_queue_size{queue="fsrs-optimization"})'
    assert trigger["metadata"]["threshold"] == "100"
    assert trigger["metricType"] == "AverageValue"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 12)


def test_pods_come_at_once_and_go_one_at_a_time_after_a_while() -> None:
    behavior = scaled_object(ARGS)["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]


def test_a_prometheus_that_does_not_answer_takes_no_pod_away() -> None:
    spec = scaled_object(ARGS)["spec"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert spec["triggers"][0]["metadata"]["ignoreNullValues"] == "false"


@pytest.mark.parametrize("paused", [False, True])
def test_scaling_in_can_be_paused_and_keda_takes_it_all(paused: bool) -> None:
    manifest = scaled_object(ScalingArgs("apps", "complexity", "http://p", SIZE, paused))
    assert list(problems(manifest)) == []
    annotations = manifest["metadata"].get("annotations", {})
    assert ("autoscaling.keda.sh/paused-scale-in" in annotations) is paused
