"""What the stand-in for IAM lets a role do, by its policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from stacks.aws.documents import allow, document, trust
from tests.stacks.aws.kinds.cloud import ACCOUNT, Cloud
from tests.stacks.aws.kinds.eks import PodIdentityAssociation
from tests.stacks.aws.permissions import PodIdentities, permits

ROLE = f"arn:aws:iam::{ACCOUNT}:role/pods"
USER = "arn:aws:rds-db:eu-central-1:1:dbuser:db-A/worker"
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/one"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with mock_aws():
        yield Cloud("eu-central-1")


def give(cloud: Cloud, *statements: dict[str, Any], trusted: str | None = None) -> None:
    client = cloud.client("iam")
    policy = trusted or trust("pods.eks.amazonaws.com", ("sts:AssumeRole", "sts:TagSession"))
    client.create_role(RoleName="pods", AssumeRolePolicyDocument=policy)
    if statements:
        client.put_role_policy(
            RoleName="pods", PolicyName="own", PolicyDocument=document(*statements)
        )


@pytest.mark.parametrize(
    ("resource", "permitted"),
    [
        (USER, True),
        (f"{USER[:-6]}*", True),
        (f"{USER[:-1]}?", True),
        (f"{USER}s", False),
        (USER[:-1], False),
    ],
)
def test_a_policy_permits_what_it_names(cloud: Cloud, resource: str, permitted: bool) -> None:
    give(cloud, allow(("rds-db:Connect",), (resource,)))
    assert permits(cloud, ROLE, "rds-db:connect", USER) is permitted
    assert not permits(cloud, ROLE, "kms:Decrypt", USER)


def test_a_role_without_policies_may_do_nothing(cloud: Cloud) -> None:
    give(cloud)
    assert not permits(cloud, ROLE, "rds-db:connect", USER)


def test_what_is_denied_is_not_permitted(cloud: Cloud) -> None:
    statement = allow(("rds-db:connect",), (USER,))
    give(cloud, statement, {**statement, "Effect": "Deny"})
    assert not permits(cloud, ROLE, "rds-db:connect", USER)


def test_a_condition_must_hold(cloud: Cloud) -> None:
    give(cloud, allow(("kms:Decrypt",), (KEY,), {"StringEquals": {"kms:ViaService": "secrets"}}))
    assert permits(cloud, ROLE, "kms:Decrypt", KEY, {"kms:ViaService": "secrets"})
    assert not permits(cloud, ROLE, "kms:Decrypt", KEY, {"kms:ViaService": "another"})
    assert not permits(cloud, ROLE, "kms:Decrypt", KEY)


def test_what_is_not_understood_is_refused(cloud: Cloud) -> None:
    give(cloud, allow(("kms:Decrypt",), (KEY,), {"Bool": {"aws:SecureTransport": "true"}}))
    with pytest.raises(ValueError, match="does not know the conditions"):
        permits(cloud, ROLE, "kms:Decrypt", KEY)


@pytest.mark.parametrize("service", ["pods.eks.amazonaws.com", "ec2.amazonaws.com"])
def test_an_identity_is_of_pods_whose_service_the_role_trusts(cloud: Cloud, service: str) -> None:
    give(cloud, trusted=trust(service, ("sts:AssumeRole", "sts:TagSession")))
    cloud.shadow[PodIdentityAssociation.operation, "cluster:space:account"] = {
        "namespace": "space",
        "serviceAccount": "account",
        "roleArn": ROLE,
    }
    expected = {("space", "account"): ROLE} if service.startswith("pods") else {}
    assert dict(PodIdentities(lambda: cloud)) == expected


def test_half_a_trust_is_none(cloud: Cloud) -> None:
    give(cloud, trusted=trust("pods.eks.amazonaws.com"))
    cloud.shadow[PodIdentityAssociation.operation, "cluster:space:account"] = {
        "namespace": "space",
        "serviceAccount": "account",
        "roleArn": ROLE,
    }
    assert dict(PodIdentities(lambda: cloud)) == {}
