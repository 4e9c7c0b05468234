"""Staging by the real engine: made, changed, looked at again and taken away.

One stack for the module, the tests in order: later ones change it, the last destroys it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stacks.aws.engine import UNCHECKED, Engine, operations, running
from tests.stacks.aws.mocks import foundation, settings
from tests.stacks.aws.provider import running_providers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

INSTANCE = "platform-database Instance"

PUBLIC_DATABASE = """
import pulumi
import pulumi_aws
from stacks.policies import Surroundings
from stacks.policy import enforce

enforce(Surroundings(durable=False))
provider = pulumi_aws.Provider(
    "provider",
    region="eu-central-1",
    allowed_account_ids=["123456789012"],
    default_tags={"tags": dict.fromkeys(("environment", "managed-by", "project", "stack"), "x")},
)
pulumi_aws.rds.Instance(
    "open",
    instance_class="db.t4g.large",
    publicly_accessible=True,
    opts=pulumi.ResourceOptions(provider=provider),
)
"""


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(tmp_path_factory.mktemp("staging"), "staging") as engine:
        yield engine


def test_a_resource_that_breaks_a_rule_fails_the_update_before_it_is_made(tmp_path: Path) -> None:
    with running_providers() as providers:
        engine = Engine(tmp_path, "staging", providers)
        engine.prepare(settings("staging"), PUBLIC_DATABASE)
        refused = engine.up(check=False)
        assert refused.returncode
        shown = refused.stdout + refused.stderr
        assert "the policy forbids" in shown
        assert "open: publiclyAccessible is not false (no-public-database" in shown
        assert providers.cloud.client("rds").describe_db_instances()["DBInstances"] == []


def test_the_first_preview_makes_everything_and_touches_nothing(staging: Engine) -> None:
    changes = staging.changes()
    assert set(operations(changes).values()) == {"create"}
    declared = {
        f"{resource.name} {resource.type.rsplit(':', 1)[-1]}"
        for resource in foundation("staging")[0].resources
    }
    assert set(changes) == {*declared, "learning-platform-staging Stack"}
    vpcs = staging.providers.cloud.client("ec2").describe_vpcs()["Vpcs"]
    assert [vpc for vpc in vpcs if not vpc["IsDefault"]] == []


def test_an_update_makes_it_and_leaves_nothing_to_do(staging: Engine) -> None:
    staging.up()
    staging.pulumi("preview", "--expect-no-changes", "--stack", "staging")
    staging.pulumi("refresh", "--yes", "--expect-no-changes", "--stack", "staging")
    instances = staging.providers.cloud.client("rds").describe_db_instances()["DBInstances"]
    (instance,) = instances
    assert instance["StorageEncrypted"]
    assert not instance["PubliclyAccessible"]
    assert {"Key": "environment", "Value": "staging"} in instance["TagList"]


def test_no_secret_is_plain_in_the_state_or_in_what_is_shown(staging: Engine) -> None:
    password = staging.outputs()["queue_url"].split(":")[2].split("@")[0]
    assert len(password) == 48
    assert password not in staging.state()
    assert password not in staging.pulumi("stack", "output", "--stack", "staging").stdout
    assert password not in staging.pulumi("preview", "--diff", "--stack", "staging").stdout


def test_what_somebody_changed_by_hand_is_found_and_mended(staging: Engine) -> None:
    rds = staging.providers.cloud.client("rds")
    (instance,) = rds.describe_db_instances()["DBInstances"]
    identifier = instance["DBInstanceIdentifier"]
    rds.modify_db_instance(
        DBInstanceIdentifier=identifier, PubliclyAccessible=True, ApplyImmediately=True
    )
    staging.pulumi("refresh", "--yes", "--stack", "staging")
    assert operations(staging.changes()) == {INSTANCE: "update"}
    staging.up()
    (instance,) = rds.describe_db_instances()["DBInstances"]
    assert not instance["PubliclyAccessible"]


def test_a_larger_instance_is_one_update(staging: Engine) -> None:
    staging.configure(settings("staging", database={"instanceClass": "db.m7g.large"}))
    changes = staging.changes()
    assert operations(changes) == {INSTANCE: "update"}
    assert changes[INSTANCE]["diffReasons"] == ["instanceClass"]
    staging.configure(settings("staging"))


def test_a_rotated_password_reaches_the_user_and_replaces_nothing_that_holds_data(
    staging: Engine,
) -> None:
    before = staging.outputs()["queue_url"]
    staging.configure(settings("staging", queue={"passwordGeneration": 2}))
    found = operations(staging.changes())
    assert "replace" in found["platform-queue-password RandomPassword"]
    assert found["platform-queue-workers User"] == "update"
    assert set(found) == {"platform-queue-password RandomPassword", "platform-queue-workers User"}
    staging.up()
    assert staging.outputs()["queue_url"] != before
    staging.pulumi("preview", "--expect-no-changes", "--stack", "staging")


def test_a_snapshot_to_start_from_replaces_the_database_of_staging(staging: Engine) -> None:
    from_snapshot: dict[str, Any] = {"database": {"restoreSnapshot": "of-prod"}}
    rds = staging.providers.cloud.client("rds")
    (instance,) = rds.describe_db_instances()["DBInstances"]
    rds.create_db_snapshot(
        DBInstanceIdentifier=instance["DBInstanceIdentifier"], DBSnapshotIdentifier="of-prod"
    )
    staging.configure(settings("staging", **from_snapshot))
    found = operations(staging.changes())
    assert "replace" in found[INSTANCE]
    assert found["platform-database-restored SnapshotCopy"] == "create"
    staging.up()
    staging.pulumi("preview", "--expect-no-changes", "--stack", "staging")


def test_destroying_staging_leaves_a_last_snapshot_and_nothing_that_costs(staging: Engine) -> None:
    staging.destroy()
    cloud = staging.providers.cloud
    assert cloud.client("rds").describe_db_instances()["DBInstances"] == []
    snapshots = cloud.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    names = [snapshot["DBSnapshotIdentifier"] for snapshot in snapshots]
    # One of the database that was replaced, one of the last.
    assert len([name for name in names if name.startswith("platform-database-final-")]) == 2
    gateways = cloud.client("ec2").describe_nat_gateways()["NatGateways"]
    assert {gateway["State"] for gateway in gateways} == {"deleted"}
    assert cloud.client("eks").list_clusters()["clusters"] == []
    vpcs = cloud.client("ec2").describe_vpcs()["Vpcs"]
    assert [vpc for vpc in vpcs if not vpc["IsDefault"]] == []
    assert cloud.unchecked <= UNCHECKED
