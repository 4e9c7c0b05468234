"""Prod by the real engine: redundant, not taken away by mistake, and taken away when meant.

The whole program; the cluster is a real control plane whose pods only pretend (pretence.py). One
stack for the module, the tests in order: the last one destroys it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from stacks.aws.database import ADMINISTRATOR
from tests.stacks.aws.engine import UNCHECKED
from tests.stacks.engine import operations
from tests.stacks.pretence import Pretended, running_pretended

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

INSTANCE = "platform-database Instance"
UPGRADED = {"passwordGeneration": 2, "version": "19", "applyImmediately": True}
PHASE: dict[str, Any] = {"phase": "cutover"}


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretended]:
    with running_pretended(tmp_path_factory.mktemp("prod"), "prod", partitioning=PHASE) as made:
        yield made


def deployments(prod: Pretended) -> dict[str, int]:
    """Return how many pods of each service are ready."""
    listed = prod.plane.api.get("/apis/apps/v1/namespaces/learning-platform/deployments")
    return {
        each["metadata"]["name"]: each["status"].get("readyReplicas", 0) for each in listed["items"]
    }


def test_prod_comes_up_redundant_and_stays_as_it_is(prod: Pretended) -> None:
    prod.engine.up()
    prod.engine.expect_no_changes()
    prod.engine.refresh("--expect-no-changes")
    cloud = prod.stand_ins.cloud
    instances = cloud.client("rds").describe_db_instances()["DBInstances"]
    assert len(instances) == 2
    assert any(instance["MultiAZ"] for instance in instances)
    (group,) = cloud.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    assert group["AutomaticFailover"] == "enabled"
    assert [line.split()[1] for line in prod.ran()] == [
        *("roles", "upgrade", "install"),
        *("prepare", "sync", "backfill", "verify", "cutover"),
    ]
    assert deployments(prod)["scheduler"] == 2


def test_prod_is_neither_replaced_nor_destroyed_by_mistake(prod: Pretended) -> None:
    prod.configure(aws={"database": {"restoreSnapshot": "another"}})
    refused = prod.engine.pulumi("preview", "--stack", "prod", check=False)
    assert refused.returncode
    assert "protect" in refused.stdout + refused.stderr
    prod.configure()
    serving = deployments(prod)
    refused = prod.engine.destroy("--run-program", check=False)
    assert refused.returncode
    assert "protect" in refused.stdout + refused.stderr
    # Everything serves on, and nothing was done to the database.
    assert deployments(prod) == serving
    assert prod.ran() == []
    # Of what nothing depends on, only what the next update makes again in a moment is gone.
    lost = operations(prod.engine.changes())
    assert set(lost.values()) <= {"create"}
    assert {name.rsplit(" ", 1)[-1] for name in lost} <= {
        *("Alias", "LifecyclePolicy"),
        *("CronJob", "Job", "Step", "PodDisruptionBudget", "StorageClass"),
        *("PodMonitor", "PrometheusRule", "ScaledObject"),
        # AWS keeps the present version of a secret.
        "SecretVersion",
        # What asks CloudWatch, and remembers nothing.
        *("CloudWatch", "PodIdentity", "PodIdentityAssociation", "Release", "Role", "RolePolicy"),
    }
    assert not {"platform-monitoring Release", "platform-keda Release"} & set(lost)
    assert not {f"platform-pods-{service} Role" for service in serving} & set(lost)
    prod.engine.up()
    prod.engine.expect_no_changes()


def test_another_master_password_is_kept_in_its_secret_and_restarts_nothing(
    prod: Pretended,
) -> None:
    client = prod.stand_ins.cloud.client("secretsmanager")
    arn = prod.engine.outputs()["database_master_secret_arn"]
    before = json.loads(client.get_secret_value(SecretId=arn)["SecretString"])
    found = prod.changes(aws={"database": {"passwordGeneration": 2}})
    for replaced in ("password RandomPassword", "master SecretVersion"):
        assert "replace" in found.pop(f"platform-database-{replaced}")
    assert found == {INSTANCE: "update"}
    prod.engine.up()
    after = json.loads(client.get_secret_value(SecretId=arn)["SecretString"])
    assert after["username"] == before["username"] == ADMINISTRATOR
    assert after["password"] != before["password"]
    for login in (before, after):
        assert login["password"] not in prod.engine.state()


def test_another_major_version_takes_an_update_at_once_for_the_replica_follows_its_source(
    prod: Pretended,
) -> None:
    prod.configure(aws={"database": {"passwordGeneration": 2, "version": "19"}})
    failed = prod.engine.up(check=False)
    assert failed.returncode
    assert "can't be used for this instance" in failed.stdout + failed.stderr
    prod.configure(aws={"database": UPGRADED})
    prod.engine.up()
    instances = prod.stand_ins.cloud.client("rds").describe_db_instances()["DBInstances"]
    groups = {each["DBParameterGroups"][0]["DBParameterGroupName"] for each in instances}
    assert len(instances) == 2
    assert len(groups) == 1
    prod.engine.expect_no_changes()


def test_prod_is_destroyed_only_after_its_protection_came_off_and_keys_stay(
    prod: Pretended,
) -> None:
    found = prod.changes(aws={"deletable": True, "database": UPGRADED})
    assert set(found.values()) == {"update"}, found
    assert INSTANCE in found
    prod.engine.up()
    prod.ran()
    prod.engine.destroy("--run-program")
    assert prod.ran() == []
    cloud = prod.stand_ins.cloud
    assert cloud.client("rds").describe_db_instances()["DBInstances"] == []
    keys = cloud.client("kms").list_keys()["Keys"]
    states = [cloud.client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in keys]
    ours = [key for key in states if "learning platform" in key["Description"]]
    assert len(ours) == 5
    assert {key["KeyState"] for key in ours} == {"Enabled"}
    assert cloud.unchecked <= UNCHECKED
