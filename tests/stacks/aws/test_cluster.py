"""The cluster: closed to the outside, encrypted, logged; rights by access entries alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from stacks.aws.cluster import LOG_TYPES
from stacks.aws.pod_identity import PodIdentity, PodIdentityArgs
from tests.stacks.aws.mocks import (
    ACCOUNT,
    ADMINISTRATOR,
    declare,
    foundation,
    foundation_with,
    settings,
)

CLUSTER = "eks/cluster:Cluster"
NAME = "platform-cluster"


def cluster(environment: str) -> Mapping[str, Any]:
    return foundation(environment)[0].one(CLUSTER, NAME)


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_the_api_is_private_unless_networks_are_given(environment: str) -> None:
    vpc = cluster(environment)["vpcConfig"]
    assert vpc["endpointPrivateAccess"] is True
    assert vpc["endpointPublicAccess"] is False
    assert all("-private-" in subnet for subnet in vpc["subnetIds"])
    office = {"administrators": [ADMINISTRATOR], "publicCidrs": ["198.51.100.0/24"]}
    opened, _ = foundation_with(settings(environment, cluster=office))
    vpc = opened.one(CLUSTER, NAME)["vpcConfig"]
    assert vpc["endpointPublicAccess"] is True
    assert vpc["publicAccessCidrs"] == ["198.51.100.0/24"]


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_secrets_are_encrypted_and_the_control_plane_is_logged(environment: str) -> None:
    found = cluster(environment)
    assert found["encryptionConfig"]["resources"] == ["secrets"]
    assert "platform-key-cluster" in found["encryptionConfig"]["provider"]["keyArn"]
    assert found["enabledClusterLogTypes"] == list(LOG_TYPES)
    logs = foundation(environment)[0].one("cloudwatch/logGroup:LogGroup", f"{NAME}-logs")
    assert logs["name"] == f"/aws/eks/{found['name']}/cluster"
    assert "platform-key-logs" in logs["kmsKeyId"]


def test_only_prod_is_protected_from_deletion() -> None:
    assert cluster("prod")["deletionProtection"] is True
    assert foundation("prod")[0].of(CLUSTER)[NAME].protect
    assert cluster("staging")["deletionProtection"] is False
    assert not foundation("staging")[0].of(CLUSTER)[NAME].protect


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_just_the_administrators_of_the_settings_get_in(environment: str) -> None:
    declarations, _ = foundation(environment)
    access = cluster(environment)["accessConfig"]
    assert access["authenticationMode"] == "API"
    assert access["bootstrapClusterCreatorAdminPermissions"] is False
    entries = declarations.of("eks/accessEntry:AccessEntry").values()
    assert [entry.inputs["principalArn"] for entry in entries] == [ADMINISTRATOR]


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_auto_mode_has_all_its_parts_and_a_node_role_that_only_pulls(environment: str) -> None:
    found = cluster(environment)
    assert found["computeConfig"]["enabled"] is True
    assert found["kubernetesNetworkConfig"]["elasticLoadBalancing"]["enabled"] is True
    assert found["storageConfig"]["blockStorage"]["enabled"] is True
    assert found["bootstrapSelfManagedAddons"] is False
    attached = foundation(environment)[0].of("iam/rolePolicyAttachment:RolePolicyAttachment")
    assert {name.rsplit("-", 1)[-1] for name in attached if name.startswith(f"{NAME}-node-")} == {
        "AmazonEC2ContainerRegistryPullOnly",
        "AmazonEKSWorkerNodeMinimalPolicy",
    }


def test_the_kubeconfig_holds_no_credentials() -> None:
    _, values = foundation("prod")
    document = yaml.safe_load(values["kubeconfig"])
    (user,) = document["users"]
    assert set(user["user"]) == {"exec"}
    assert user["user"]["exec"]["args"][:2] == ["eks", "get-token"]
    assert document["clusters"][0]["cluster"]["server"] == "https://cluster.test"


def test_an_existing_cluster_and_its_network_are_used_as_they_are() -> None:
    subnets = [f"subnet-{index:08x}" for index in range(6)]
    changed = settings(
        "staging",
        cluster={"existing": "shared"},
        network={
            "vpcId": "vpc-0123abcd",
            "privateSubnetIds": subnets[:3],
            "databaseSubnetIds": subnets[3:],
        },
    )
    declarations, values = foundation_with(changed)
    assert values["cluster_name"] == "shared"
    assert not declarations.of(CLUSTER)
    assert not declarations.of("ec2/vpc:Vpc")
    group = declarations.one("rds/subnetGroup:SubnetGroup", "platform-database")
    assert group["subnetIds"] == subnets[3:]
    rule = declarations.one(
        "vpc/securityGroupIngressRule:SecurityGroupIngressRule", "platform-database-from-cluster"
    )
    assert rule["referencedSecurityGroupId"] == "sg-existing"


def test_pod_identity_binds_a_role_to_one_service_account() -> None:
    def program() -> dict[str, Any]:
        identity = PodIdentity(
            "workers",
            PodIdentityArgs(ACCOUNT, "cluster", "platform", "workers", {"database": "{}"}),
        )
        return {"role": identity.role_arn}

    declarations, values = declare(program)
    bound = declarations.one("eks/podIdentityAssociation:PodIdentityAssociation", "workers")
    assert (bound["namespace"], bound["serviceAccount"]) == ("platform", "workers")
    assert bound["roleArn"] == values["role"]
    role = declarations.one("iam/role:Role", "workers")
    assert "pods.eks.amazonaws.com" in role["assumeRolePolicy"]
    assert ACCOUNT in role["assumeRolePolicy"]
