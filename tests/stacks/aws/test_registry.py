"""The registry: images are scanned, never overwritten, and tidied."""

from __future__ import annotations

import json

import pytest

from tests.stacks.aws.mocks import foundation

REPOSITORY = "ecr/repository:Repository"
NAME = "platform-registry"


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_images_are_scanned_encrypted_and_never_overwritten(environment: str) -> None:
    repository = foundation(environment)[0].one(REPOSITORY, NAME)
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["imageTagMutability"] == "IMMUTABLE"
    (encryption,) = repository["encryptionConfigurations"]
    assert encryption["encryptionType"] == "KMS"
    assert "platform-key-registry" in encryption["kmsKey"]


def test_only_staging_is_deleted_with_the_images_in_it() -> None:
    assert foundation("staging")[0].one(REPOSITORY, NAME)["forceDelete"] is True
    assert foundation("prod")[0].one(REPOSITORY, NAME)["forceDelete"] is False
    assert foundation("prod")[0].of(REPOSITORY)[NAME].protect


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_untagged_images_go_first_and_then_all_but_the_newest(environment: str) -> None:
    policy = json.loads(
        foundation(environment)[0].one("ecr/lifecyclePolicy:LifecyclePolicy", NAME)["policy"]
    )
    first, second = (rule["selection"] for rule in policy["rules"])
    assert first["tagStatus"] == "untagged"
    assert (second["countType"], second["countNumber"]) == ("imageCountMoreThan", 50)
