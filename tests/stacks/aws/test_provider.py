"""The stand-in refuses what AWS would: wrong names, types, values, references and order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from moto import mock_aws

from tests.stacks.aws.kinds import KINDS
from tests.stacks.aws.kinds.cloud import Cloud
from tests.stacks.aws.kinds.kind import UnknownPropertyError
from tests.stacks.aws.mocks import foundation
from tests.stacks.aws.provider import AwsBackend

VPC = "aws:ec2/vpc:Vpc"
SUBNET = "aws:ec2/subnet:Subnet"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield Cloud("eu-central-1", {"stack": "test"})


def create(cloud: Cloud, type_: str, **inputs: Any) -> str:
    return KINDS[type_].create(cloud, inputs)[0]


def test_every_type_that_the_components_declare_is_known() -> None:
    declared = {
        resource.type
        for environment in ("staging", "prod")
        for resource in foundation(environment)[0].resources
        if resource.type.startswith("aws:")
    }
    assert declared <= set(KINDS)


def test_a_property_without_a_request_is_refused(cloud: Cloud) -> None:
    with pytest.raises(UnknownPropertyError, match="cidrBlok"):
        create(cloud, VPC, cidrBlok="10.0.0.0/16")


def test_a_value_of_a_wrong_type_is_refused(cloud: Cloud) -> None:
    with pytest.raises(ParamValidationError, match="CidrBlock"):
        create(cloud, VPC, cidrBlock=16)


def test_a_value_outside_an_enumeration_is_refused(cloud: Cloud) -> None:
    with pytest.raises(BotoCoreError, match="IMUTABLE"):
        create(
            cloud,
            "aws:ecr/repository:Repository",
            name="images",
            imageTagMutability="IMUTABLE",
        )


def test_a_name_that_breaks_the_models_pattern_is_refused(cloud: Cloud) -> None:
    with pytest.raises(BotoCoreError, match="does not match"):
        create(
            cloud,
            "aws:ecr/repository:Repository",
            name="Images With Spaces",
            imageTagMutability="IMMUTABLE",
        )


@pytest.mark.parametrize(
    ("type_", "inputs"),
    [
        (SUBNET, {"vpcId": "vpc-0", "cidrBlock": "10.0.0.0/24"}),
        (
            "aws:rds/subnetGroup:SubnetGroup",
            {"name": "db", "description": "db", "subnetIds": ["subnet-0"]},
        ),
        (
            "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
            {"role": "nobody", "policyArn": "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"},
        ),
        ("aws:kms/alias:Alias", {"name": "alias/a", "targetKeyId": "no-such-key"}),
        (
            "aws:cloudwatch/logGroup:LogGroup",
            {"name": "logs", "kmsKeyId": "no-such-key", "retentionInDays": 7},
        ),
    ],
)
def test_a_reference_to_what_is_not_there_is_refused(
    cloud: Cloud, type_: str, inputs: dict[str, Any]
) -> None:
    with pytest.raises(ClientError):
        create(cloud, type_, **inputs)


def test_a_managed_policy_that_aws_does_not_have_is_refused(cloud: Cloud) -> None:
    role = create(cloud, "aws:iam/role:Role", name="role", assumeRolePolicy="{}")
    with pytest.raises(ClientError, match="AmazonEKSClusterPolice"):
        create(
            cloud,
            "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
            role=role,
            policyArn="arn:aws:iam::aws:policy/AmazonEKSClusterPolice",
        )


def test_overlapping_subnets_are_refused(cloud: Cloud) -> None:
    vpc = create(cloud, VPC, cidrBlock="10.0.0.0/16")
    create(cloud, SUBNET, vpcId=vpc, cidrBlock="10.0.0.0/20")
    with pytest.raises(ClientError, match="conflicts"):
        create(cloud, SUBNET, vpcId=vpc, cidrBlock="10.0.1.0/24")


def test_deleting_in_the_wrong_order_is_refused(cloud: Cloud) -> None:
    vpc = create(cloud, VPC, cidrBlock="10.0.0.0/16")
    gateway = "aws:ec2/internetGateway:InternetGateway"
    id_ = create(cloud, gateway, vpcId=vpc)
    with pytest.raises(ValueError, match="dependencies"):
        KINDS[VPC].delete(cloud, vpc, {})
    KINDS[gateway].delete(cloud, id_, {"vpcId": vpc})
    KINDS[VPC].delete(cloud, vpc, {})


def test_a_cache_with_failover_but_no_replica_and_no_parameter_group_is_refused(
    cloud: Cloud,
) -> None:
    inputs = {"parameterGroupName": "missing", "userGroupIds": []}
    with pytest.raises(ValueError, match="no parameter group missing"):
        create(cloud, "aws:elasticache/replicationGroup:ReplicationGroup", **inputs)


def test_a_parameter_group_is_held_against_the_model_and_named_as_unchecked(cloud: Cloud) -> None:
    group = "aws:elasticache/parameterGroup:ParameterGroup"
    inputs = {
        "name": "p",
        "family": "valkey8",
        "description": "d",
        "parameters": [{"name": "maxmemory-policy", "value": "noeviction"}],
    }
    create(cloud, group, **inputs)
    assert "elasticache:CreateCacheParameterGroup" in cloud.unchecked
    with pytest.raises(ParamValidationError):
        create(cloud, group, **{**inputs, "name": "q", "family": 8})


def test_an_account_that_is_not_allowed_is_refused() -> None:
    with mock_aws():
        backend = AwsBackend()
        with pytest.raises(ValueError, match="123456789012 is not allowed"):
            backend.configure({"region": "eu-central-1", "allowedAccountIds": '["999999999999"]'})
