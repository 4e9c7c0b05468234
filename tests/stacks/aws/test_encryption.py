"""Keys: our own, rotated, and there as long as what they encrypted."""

from __future__ import annotations

import json

import pytest

from stacks.aws.encryption import PURPOSES
from tests.stacks.aws.mocks import foundation, foundation_with, settings

KEY = "kms/key:Key"


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_every_purpose_has_a_rotated_key_that_is_slow_to_go(environment: str) -> None:
    keys = foundation(environment)[0].of(KEY)
    assert set(keys) == {f"platform-key-{purpose}" for purpose in PURPOSES}
    for key in keys.values():
        assert key.inputs["enableKeyRotation"] is True
        assert key.inputs["deletionWindowInDays"] == 30


def test_keys_of_prod_are_protected_and_outlive_the_stack() -> None:
    assert all(key.protect and key.retained for key in foundation("prod")[0].of(KEY).values())
    staging = foundation("staging")[0].of(KEY)
    assert not any(key.protect for key in staging.values())
    # It leaves a last snapshot of the database alone.
    retained = [name for name, key in staging.items() if key.retained]
    assert retained == ["platform-key-database"]


def test_accounts_that_may_copy_snapshots_of_the_database_may_decrypt_them() -> None:
    readers = {"snapshotReaders": ["210987654321"]}
    keys = foundation_with(settings("prod", database=readers))[0].of(KEY)
    for name, key in keys.items():
        statements = json.loads(key.inputs["policy"])["Statement"]
        theirs = [each for each in statements if "210987654321" in json.dumps(each["Principal"])]
        assert bool(theirs) == (name == "platform-key-database")
        allowed = {action for each in theirs for action in each["Action"]}
        assert "kms:*" not in allowed
        assert not allowed or {"kms:Decrypt", "kms:CreateGrant"} <= allowed
    assert "210987654321" not in json.dumps(
        [key.inputs["policy"] for key in foundation("prod")[0].of(KEY).values()]
    )


def test_only_the_key_of_logs_serves_cloudwatch_and_only_this_accounts_groups() -> None:
    for name, key in foundation("prod")[0].of(KEY).items():
        statements = json.loads(key.inputs["policy"])["Statement"]
        services = [each for each in statements if "Service" in each["Principal"]]
        assert bool(services) == (name == "platform-key-logs")
        for each in services:
            assert "123456789012:log-group:*" in json.dumps(each["Condition"])


def test_protection_comes_off_by_a_setting_before_a_destroy() -> None:
    declarations, _ = foundation_with(settings("prod", deletable=True))
    assert not any(resource.protect for resource in declarations.resources)
    # The last snapshots of prod can be read for as long as they are kept.
    assert all(key.retained for key in declarations.of(KEY).values())
    instance = declarations.one("rds/instance:Instance", "platform-database")
    assert instance["deletionProtection"] is False
    assert instance["skipFinalSnapshot"] is False
    assert instance["multiAz"] is True
