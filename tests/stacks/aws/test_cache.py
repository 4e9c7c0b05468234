"""The queue's store: never evicts, TLS only, one user that may do no harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from stacks.aws.cache import access_string
from tests.servers import ValkeyServer
from tests.stacks.aws.mocks import foundation, foundation_with, settings

GROUP = "elasticache/replicationGroup:ReplicationGroup"
NAME = "platform-queue"


def group(environment: str) -> Mapping[str, Any]:
    return foundation(environment)[0].one(GROUP, NAME)


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_it_never_evicts(environment: str) -> None:
    parameters = foundation(environment)[0].one("elasticache/parameterGroup:ParameterGroup", NAME)
    assert {"name": "maxmemory-policy", "value": "noeviction"} in parameters["parameters"]
    assert parameters["family"] == "valkey8"
    assert group(environment)["engineVersion"].startswith("8.")
    assert group(environment)["parameterGroupName"] == NAME


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_it_is_encrypted_at_rest_and_on_the_way(environment: str) -> None:
    found = group(environment)
    assert found["engine"] == "valkey"
    assert found["atRestEncryptionEnabled"] is True
    assert "platform-key-queue" in found["kmsKeyId"]
    assert found["transitEncryptionEnabled"] is True
    assert found["transitEncryptionMode"] == "required"
    assert foundation(environment)[1]["queue_url"].startswith("rediss://workers:")


def test_prod_fails_over_to_another_zone_and_keeps_snapshots() -> None:
    declared = foundation("prod")[0].of(GROUP)[NAME]
    assert declared.protect
    assert declared.inputs["numCacheClusters"] == 3
    assert declared.inputs["automaticFailoverEnabled"] is True
    assert declared.inputs["multiAzEnabled"] is True
    assert declared.inputs["snapshotRetentionLimit"] == 14
    last = "learning-platform-prod-final-0a1b2c3d"
    assert declared.inputs["finalSnapshotIdentifier"] == last
    # Also in the update that takes the protection off, for the destroy that follows.
    deletable, _ = foundation_with(settings("prod", deletable=True))
    assert deletable.one(GROUP, NAME)["finalSnapshotIdentifier"] == last


def test_staging_is_one_node_that_keeps_a_snapshot() -> None:
    declared = foundation("staging")[0].of(GROUP)[NAME]
    assert not declared.protect
    assert declared.inputs["numCacheClusters"] == 1
    assert declared.inputs["automaticFailoverEnabled"] is False
    assert declared.inputs["snapshotRetentionLimit"] == 1


def test_its_only_user_has_a_generated_password() -> None:
    declarations, _ = foundation("prod")
    users = declarations.of("elasticache/user:User")
    assert set(users) == {f"{NAME}-workers"}
    user = users[f"{NAME}-workers"].inputs
    assert user["authenticationMode"] == {"type": "password", "passwords": ["generated-password"]}
    users_of_group = declarations.one("elasticache/userGroup:UserGroup", NAME)["userIds"]
    assert users_of_group == ["learning-platform-prod-workers"]
    assert group("prod")["userGroupIds"] == ["learning-platform-prod"]


def test_another_generation_makes_another_password_and_nothing_else() -> None:
    changed, _ = foundation_with(settings("prod", queue={"passwordGeneration": 2}))
    password = "random:index/randomPassword:RandomPassword"
    before = foundation("prod")[0].one(password, f"{NAME}-password")
    after = changed.one(password, f"{NAME}-password")
    assert before["keepers"] == {"generation": "1"}
    assert after == {**before, "keepers": {"generation": "2"}}
    assert changed.one(GROUP, NAME) == group("prod")


@pytest.fixture
def limited(valkey_server: ValkeyServer) -> redis.Redis:
    """A client of a real Valkey, logged in as a user with the access string of the stack."""
    client = valkey_server.client()
    client.flushall()
    client.execute_command(
        "ACL", "SETUSER", "workers", "reset", ">secret", *access_string("bull").split()
    )
    keywords = dict(client.connection_pool.connection_kwargs)
    return redis.Redis(
        host=keywords["host"], port=keywords["port"], username="workers", password="secret"
    )


def test_a_real_valkey_lets_that_user_work_on_queues(limited: redis.Redis) -> None:
    script = "redis.call('ZADD', KEYS[1], 1, 'job') return redis.call('ZCARD', KEYS[1])"
    assert limited.eval(script, 1, "bull:complexity:wait") == 1
    limited.client_setname("worker")
    assert limited.client_list()
    assert limited.info("memory")["maxmemory_policy"]
    assert list(limited.scan_iter("bull:*:meta")) == []


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
        ("SET", "session:1", "x"),
        ("KEYS", "*"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
    ],
)
def test_a_real_valkey_refuses_that_user_what_would_do_harm(
    limited: redis.Redis, command: tuple[str, ...]
) -> None:
    with pytest.raises(NoPermissionError):
        limited.execute_command(*command)
