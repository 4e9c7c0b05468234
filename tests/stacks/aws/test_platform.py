"""The AWS platform: who may do what, who is told what, and what is not loaded for others."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from migrations.roles import STEPS, WORKERS
from stacks.aws.environments import ENVIRONMENTS
from stacks.aws.platform import sizes
from stacks.settings import Settings
from tests.stacks.aws.mocks import (
    Declarations,
    settings,
    whole,
    whole_with,
)
from tests.stacks.inputs import without_digest

SERVICES = {"complexity", "exporter", "fsrs-optimization", "scheduler"}
DEPLOYMENT, JOB = "kubernetes:apps/v1:Deployment", "kubernetes:batch/v1:Job"
SUBNETS = ("subnet-0a", "subnet-0b", "subnet-0c")


def container(declarations: Declarations, type_: str, name: str) -> dict[str, Any]:
    found = {without_digest(each): declared for each, declared in declarations.of(type_).items()}
    return found[f"platform-{name}"].inputs["spec"]["template"]["spec"]["containers"][0]


def variables(declarations: Declarations, type_: str, name: str) -> dict[str, str]:
    """Return the variables of a pod that have a value of their own."""
    env = container(declarations, type_, name)["env"]
    return {each["name"]: each["value"] for each in env if "value" in each}


def statements(declarations: Declarations) -> dict[str, list[dict[str, Any]]]:
    """Return what each pod's role allows, by the role's name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for policy in declarations.of("iam/rolePolicy:RolePolicy").values():
        if policy.name.startswith("platform-pods-"):
            document = json.loads(policy.inputs["policy"])
            name = policy.name.removeprefix("platform-pods-").rsplit("-", 1)[0]
            found.setdefault(name, []).extend(document["Statement"])
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_services_log_in_as_a_role_that_owns_nothing_and_steps_as_the_owner(
    environment: str,
) -> None:
    declarations, _ = whole(environment)
    for service in SERVICES:
        url = variables(declarations, DEPLOYMENT, service)["DATABASE_URL"]
        assert url.startswith(f"postgresql://{WORKERS}@")
        assert url.endswith("?sslmode=verify-full")
    for step in ("schema", "install", "sync"):
        url = variables(declarations, JOB, step)["DATABASE_URL"]
        assert url.startswith(f"postgresql://{STEPS}@")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_pod_may_log_in_as_its_own_role_and_no_other(environment: str) -> None:
    allowed = statements(whole(environment)[0])
    assert set(allowed) == {*SERVICES, "steps", "roles"}
    for name in (*SERVICES, "steps"):
        (statement,) = allowed[name]
        assert statement["Action"] == ["rds-db:connect"]
        role = STEPS if name == "steps" else WORKERS
        assert all(arn.endswith(f"/{role}") for arn in statement["Resource"])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_only_the_step_that_makes_the_roles_reads_the_master_password(environment: str) -> None:
    declarations, _ = whole(environment)
    allowed = statements(declarations)
    readers = [
        name
        for name, listed in allowed.items()
        if any("secretsmanager:GetSecretValue" in each["Action"] for each in listed)
    ]
    assert readers == ["roles"]
    assert "DATABASE_MASTER_SECRET_ARN" in variables(declarations, JOB, "roles")
    for step in ("schema", "sync"):
        assert "DATABASE_MASTER_SECRET_ARN" not in variables(declarations, JOB, step)


def test_only_the_complexity_reads_the_replica_and_only_where_there_is_one() -> None:
    readers = {
        (environment, service)
        for environment in ENVIRONMENTS
        for service in SERVICES
        if "DATABASE_REPLICA_URL" in variables(whole(environment)[0], DEPLOYMENT, service)
    }
    assert readers == {("prod", "complexity")}


def test_a_worker_runs_as_many_processes_as_it_asks_for_cores() -> None:
    declarations, _ = whole("prod")
    assert variables(declarations, DEPLOYMENT, "fsrs-optimization")["PROCESSES"] == "2"
    resources = container(declarations, DEPLOYMENT, "fsrs-optimization")["resources"]
    assert resources["requests"]["cpu"] == "2000m"


def test_the_settings_change_how_many_pods_there_are_and_give_way_to_nothing_impossible() -> None:
    few = sizes(settings("prod", scaling={"complexity": {"maximum": 3, "jobsPerReplica": 9}}))
    assert (few["complexity"].maximum, few["complexity"].jobs_per_replica) == (3, 9)
    many = sizes(settings("staging", scaling={"complexity": {"minimum": 9}}))
    assert (many["complexity"].minimum, many["complexity"].maximum) == (9, 9)
    one = sizes(settings("prod", scaling={"fsrsOptimization": {"maximum": 1}}))
    assert (one["fsrs-optimization"].minimum, one["fsrs-optimization"].maximum) == (1, 1)


def test_a_destroy_of_prod_by_mistake_stops_at_its_services() -> None:
    for environment, protected in (("prod", True), ("staging", False)):
        found = whole(environment)[0].of(DEPLOYMENT).values()
        assert {each.protect for each in found} == {protected}


def test_a_worker_that_is_scaled_is_scaled_on_its_own_queue_and_others_are_not_scaled() -> None:
    scaled = {
        each.inputs["metadata"]["name"]: each.inputs["spec"]["triggers"][0]["metadata"]["query"]
        for each in whole("prod")[0].of("kubernetes:keda.sh/v1alpha1:ScaledObject").values()
    }
    assert set(scaled) == {"fsrs-optimization", "complexity"}
    assert all(f'queue="{name}"' in query for name, query in scaled.items())


def existing() -> Declarations:
    changed = settings(
        "prod",
        cluster={"existing": "shared"},
        network={
            "vpcId": "vpc-0a",
            "privateSubnetIds": SUBNETS,
            "databaseSubnetIds": [*SUBNETS[:2], "subnet-00c"],
        },
    )
    return whole_with(Settings(aws=changed))[0]


def test_in_a_network_of_others_its_subnets_are_looked_up() -> None:
    policy = existing().one("kubernetes:networking.k8s.io/v1:NetworkPolicy", "network-database")
    blocks = [each["ipBlock"]["cidr"] for each in policy["spec"]["egress"][0]["to"]]
    # The mocks make a subnet's network of the length of its id.
    assert blocks == ["10.9.0.0/18", "10.9.0.0/18", "10.10.0.0/18"]


def test_a_cluster_of_others_is_not_told_how_to_enforce_policies() -> None:
    config_map = "kubernetes:core/v1:ConfigMap"
    assert "network-policy-enforcement" in whole("prod")[0].of(config_map)
    assert "network-policy-enforcement" not in existing().of(config_map)


def test_the_local_stack_does_not_load_the_sdks_of_the_others() -> None:
    script = """
import sys
import stacks.composition, stacks.local.platform, stacks.settings
loaded = {name.partition(".")[0] for name in sys.modules}
print(*loaded & {"pulumi_aws", "pulumi_kubernetes", "kubernetes", "boto3", "numpy"})
"""
    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert completed.stdout.split() == []
