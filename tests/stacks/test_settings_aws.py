"""The settings of staging and prod: what is accepted, and how what does not agree is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.database_steps import require_files
from stacks.settings import (
    Settings,
    SettingsError,
    read_settings,
    require_no_placeholders,
)

ROOT = Path(__file__).resolve().parents[2]

VALID: dict[str, Any] = {
    "environment": "prod",
    "image": f"sha256:{'0123456789abcdef' * 4}",
    "accountId": "123456789012",
    "region": "eu-central-1",
    "zones": ["eu-central-1a", "eu-central-1b", "eu-central-1c"],
    "cluster": {"administrators": ["arn:aws:iam::123456789012:role/Operators"]},
}
SUBNETS = ["subnet-0a", "subnet-0b", "subnet-0c"]
NETWORK = {"vpcId": "vpc-0a", "privateSubnetIds": SUBNETS, "databaseSubnetIds": SUBNETS}


def configuration(**changed: Any) -> dict[str, str]:
    return {"learning-platform:aws": json.dumps({**VALID, **changed})}


def test_the_smallest_settings_are_valid_and_protect() -> None:
    aws = read_settings(configuration()).aws
    assert aws is not None
    assert not aws.deletable
    assert aws.cluster.public_cidrs == ()
    assert str(aws.cidr) == "10.20.0.0/16"


def test_a_stack_without_the_section_has_nothing_in_aws() -> None:
    assert read_settings({}).aws is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"environment": "production"}, "aws.environment: got 'production'"),
        ({"accountId": "1234"}, "aws.accountId: got '1234'"),
        ({"zones": ["eu-central-1a"] * 3}, "zones: takes three different zones of eu-central-1"),
        ({"zones": ["eu-west-1a", "eu-west-1b", "eu-west-1c"]}, "zones: takes three different"),
        ({"cidr": "8.8.0.0/16"}, "aws.cidr: got '8.8.0.0/16', takes a private network"),
        ({"cidr": "10.0.0.0/24"}, "takes a private network from /16 to /20"),
        ({"cluster": {}}, "cluster.administrators: takes at least one role"),
        ({"cluster": {"existing": "shared"}}, "cluster.existing and network: take both"),
        ({"network": NETWORK}, "cluster.existing and network: take both"),
        (
            {"cluster": {**VALID["cluster"], "publicCidrs": ["0.0.0.0/0"]}},
            "cluster.publicCidrs: takes networks of /8 or smaller",
        ),
        (
            {"cluster": {"existing": "a", "clientGroups": ["sg-0a"]}, "network": NETWORK},
            "cluster.clientGroups: is for a new cluster",
        ),
        (
            {"cluster": {**VALID["cluster"], "clientGroups": ["10.0.0.0/8"]}},
            "aws.cluster.clientGroups.0: got '10.0.0.0/8'",
        ),
        ({"database": {"version": "17"}}, "aws.database.version: got '17'"),
        ({"database": {"snapshotReaders": ["staging"]}}, "snapshotReaders.0: got 'staging'"),
        ({"database": {"instanceClas": "x"}}, "aws.database.instanceClas: unknown key; known are"),
        ({"queue": {"nodeType": "t4g.small"}}, "aws.queue.nodeType: got 't4g.small'"),
        ({"cluster": {"administrators": ["root"]}}, "aws.cluster.administrators.0: got 'root'"),
    ],
)
def test_what_does_not_fit_is_refused_naming_the_key(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(configuration(**changed))
    assert told in str(caught.value)


def test_an_existing_cluster_comes_with_its_network() -> None:
    changed = configuration(cluster={"existing": "shared"}, network=NETWORK)
    aws = read_settings(changed).aws
    assert aws is not None
    assert aws.cluster.existing == "shared"


def committed(stack: str) -> Settings:
    document = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())
    return read_settings({key: json.dumps(value) for key, value in document["config"].items()})


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_committed_settings_are_valid_but_for_what_only_their_user_knows(stack: str) -> None:
    settings = committed(stack)
    assert settings.aws is not None
    assert settings.aws.environment == stack
    require_files(settings, ROOT)
    with pytest.raises(SettingsError) as caught:
        require_no_placeholders(settings)
    for key in ("accountId", "image", "cluster.administrators"):
        assert f"learning-platform:aws.{key}" in str(caught.value)
        # The file says so where the value stands.
        assert key in (ROOT / f"Pulumi.{stack}.yaml").read_text().split("config:")[0]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("history", {"source": "anki", "path": "revlog.csv"}, "history.source: got 'anki'"),
        ("partitioning", {"phase": "sync", "spec": "LICENSE"}, "spec: got .* not in the image"),
        (
            "partitioning",
            {"phase": "sync", "spec": "/etc/spec.toml"},
            "spec: got .* not in the image",
        ),
    ],
)
def test_files_that_the_image_has_not_are_refused(
    tmp_path: Path, key: str, value: dict[str, Any], told: str
) -> None:
    text = {f"learning-platform:{key}": json.dumps(value)}
    with pytest.raises(SettingsError, match=told):
        require_files(read_settings({**configuration(), **text}), ROOT)


def test_settings_that_were_filled_in_have_no_placeholders() -> None:
    require_no_placeholders(read_settings(configuration()))
    require_no_placeholders(read_settings({}))


def test_staging_and_prod_do_not_overlap_so_that_they_can_be_peered() -> None:
    staging, prod = committed("staging").aws, committed("prod").aws
    assert staging is not None
    assert prod is not None
    assert not staging.cidr.overlaps(prod.cidr)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"image": "latest"}, "aws.image: got 'latest'"),
        ({"scaling": {"complexity": {"maximum": 0}}}, "aws.scaling.complexity.maximum: got 0"),
        ({"scaling": {"complexity": {"most": 3}}}, "aws.scaling.complexity.most: unknown key"),
        (
            {"scaling": {"complexity": {"minimum": 5, "maximum": 2}}},
            "takes a minimum that is not above the maximum",
        ),
    ],
)
def test_an_image_or_scaling_that_cannot_be_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(configuration(**changed))
    assert told in str(caught.value)
