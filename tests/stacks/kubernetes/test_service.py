"""A service in the cluster: what its Deployment and its pods say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stacks.kubernetes.pods import NAME, PodArgs, SecretKey, pod_template
from stacks.kubernetes.quota import resource_quota
from stacks.kubernetes.service import DeploymentArgs, deployment, disruption_budget
from stacks.kubernetes.sizes import Size

POD = PodArgs(
    name="complexity",
    image="registry.test/image@sha256:0123",
    arguments=("-m", "workers", "complexity"),
    service_account="complexity",
    size=Size(1500, 2048),
    environment={"B": "2", "A": "1"},
    secrets={"REDIS_URL": SecretKey("queue", "url")},
    serving=True,
    stop_seconds=40,
)


def test_a_rollout_starts_a_pod_before_it_drains_one_and_gives_it_longer_than_the_drain() -> None:
    spec = deployment(DeploymentArgs("apps", POD))["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 40
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("size", "replicas"), [(Size(1, 1, 2, 2), 2), (Size(1, 1), 1), (Size(1, 1, 1, 4), None)]
)
def test_the_replicas_of_a_scaled_service_are_left_to_its_autoscaler(
    size: Size, replicas: int | None
) -> None:
    args = DeploymentArgs("apps", replace(POD, size=size))
    assert deployment(args)["spec"].get("replicas") == replicas


def test_nodes_are_emptied_one_pod_at_a_time_even_where_pods_are_broken() -> None:
    spec = disruption_budget("apps", "complexity")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert spec["selector"]["matchLabels"] == {NAME: "complexity"}


def test_a_secret_is_in_a_pod_by_its_name_only() -> None:
    (container,) = pod_template(POD)["spec"]["containers"]
    environment = {each["name"]: each for each in container["env"]}
    assert list(environment) == sorted(environment)
    reference = environment["REDIS_URL"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "queue", "key": "url"}
    assert environment["METRICS_HOST"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_a_serving_pod_is_probed_on_the_port_it_is_scraped_on_and_spread_over_zones() -> None:
    spec = pod_template(POD)["spec"]
    (container,) = spec["containers"]
    assert container["ports"] == [{"name": "metrics", "containerPort": 9100}]
    paths = {key: container[f"{key}Probe"]["httpGet"]["path"] for key in ("liveness", "readiness")}
    assert paths == {"liveness": "/healthz", "readiness": "/readyz"}
    keys = [each["topologyKey"] for each in spec["topologySpreadConstraints"]]
    assert "topology.kubernetes.io/zone" in keys
    quiet = pod_template(replace(POD, serving=False))["spec"]
    assert not {"livenessProbe", "ports"} & set(quiet["containers"][0])


def test_the_size_is_what_is_asked_for_and_memory_the_limit() -> None:
    size = Size(1500, 2048)
    assert size.resources() == {
        "requests": {"cpu": "1500m", "memory": "2048Mi"},
        "limits": {"memory": "2048Mi"},
    }
    assert (size.cores, Size(100, 64).cores) == (1, 1)


def test_the_quota_has_room_for_a_rollout_of_everything_at_its_most_and_steps_beside() -> None:
    sizes = {"worker": Size(1000, 100, 1, 5), "steps": Size(500, 1000)}
    hard = resource_quota("apps", sizes)["spec"]["hard"]
    assert hard["pods"] == str(2 * 5 + 4)
    assert hard["requests.cpu"] == f"{2 * 5 * 1000 + 4 * 500}m"
    assert hard["limits.memory"] == f"{2 * 5 * 100 + 4 * 1000}Mi"
