"""Prod by the real engine: redundant, not taken away by mistake, and taken away when meant.

One stack for the module, the tests in order: the last one destroys it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stacks.aws.engine import UNCHECKED, Engine, operations, running
from tests.stacks.aws.mocks import settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

INSTANCE = "platform-database Instance"


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(tmp_path_factory.mktemp("prod"), "prod") as engine:
        yield engine


def test_prod_comes_up_redundant_and_stays_as_it_is(prod: Engine) -> None:
    prod.up()
    prod.pulumi("preview", "--expect-no-changes", "--stack", "prod")
    prod.pulumi("refresh", "--yes", "--expect-no-changes", "--stack", "prod")
    instances = prod.providers.cloud.client("rds").describe_db_instances()["DBInstances"]
    assert len(instances) == 2
    assert any(instance["MultiAZ"] for instance in instances)
    (group,) = prod.providers.cloud.client("elasticache").describe_replication_groups()[
        "ReplicationGroups"
    ]
    assert group["AutomaticFailover"] == "enabled"


def test_prod_is_neither_replaced_nor_destroyed_by_mistake(prod: Engine) -> None:
    prod.configure(settings("prod", database={"restoreSnapshot": "another"}))
    refused = prod.pulumi("preview", "--stack", "prod", check=False)
    assert refused.returncode
    assert "protect" in refused.stdout + refused.stderr
    prod.configure(settings("prod"))
    refused = prod.destroy(check=False)
    assert refused.returncode
    assert "protect" in refused.stdout + refused.stderr
    # Of what nothing depends on, only what the next update makes again in a moment is gone.
    lost = operations(prod.changes())
    assert set(lost.values()) <= {"create"}
    assert {name.rsplit(" ", 1)[-1] for name in lost} <= {
        "AccessEntry",
        "AccessPolicyAssociation",
        "Alias",
        "LifecyclePolicy",
    }
    prod.up()
    prod.pulumi("preview", "--expect-no-changes", "--stack", "prod")


def test_prod_is_destroyed_only_after_its_protection_came_off_and_keys_stay(prod: Engine) -> None:
    prod.configure(settings("prod", deletable=True))
    found = operations(prod.changes())
    assert set(found.values()) == {"update"}, found
    assert INSTANCE in found
    prod.up()
    prod.destroy()
    cloud = prod.providers.cloud
    assert cloud.client("rds").describe_db_instances()["DBInstances"] == []
    keys = cloud.client("kms").list_keys()["Keys"]
    states = [cloud.client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in keys]
    ours = [key for key in states if "learning platform" in key["Description"]]
    assert len(ours) == 5
    assert {key["KeyState"] for key in ours} == {"Enabled"}
    assert cloud.unchecked <= UNCHECKED
