# ruff: noqa: ARG002, the signatures are given
"""The cluster. Moto knows no access entries and no pod identities: see `unchecked`."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.stacks.aws.kinds.cloud import ACCOUNT, Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, Mapped, request
from tests.stacks.stand_in import GoneError


def _logging(types: list[str]) -> dict[str, Any]:
    return {"logging": {"clusterLogging": [{"types": types, "enabled": True}]}}


def _vpc(config: dict[str, Any]) -> dict[str, Any]:
    mapped: Mapped = {
        "subnetIds": "subnetIds",
        "endpointPublicAccess": "endpointPublicAccess",
        "endpointPrivateAccess": "endpointPrivateAccess",
        "publicAccessCidrs": "publicAccessCidrs",
    }
    return {"resourcesVpcConfig": request(config, mapped, {"clusterSecurityGroupId", "vpcId"})}


def _reached(cloud: Cloud, cluster: dict[str, Any]) -> Inputs:
    """Return where the cluster's API is: a control plane that runs here, or what moto says."""
    if cloud.servers.control_plane is None:
        authority = cluster["certificateAuthority"]["data"]
        return {"endpoint": cluster["endpoint"], "certificateAuthority": {"data": authority}}
    endpoint, authority = cloud.servers.control_plane
    return {"endpoint": endpoint, "certificateAuthority": {"data": authority}}


class Cluster(Kind):
    updatable = frozenset(
        {
            "accessConfig",
            "computeConfig",
            "deletionProtection",
            "enabledClusterLogTypes",
            "kubernetesNetworkConfig",
            "storageConfig",
            "upgradePolicy",
            "version",
            "vpcConfig",
            "zonalShiftConfig",
        }
    )
    autonamed = "name"
    _mapped: ClassVar[Mapped] = {
        "name": "name",
        "version": "version",
        "roleArn": "roleArn",
        "accessConfig": "accessConfig",
        "bootstrapSelfManagedAddons": "bootstrapSelfManagedAddons",
        "computeConfig": "computeConfig",
        "kubernetesNetworkConfig": "kubernetesNetworkConfig",
        "storageConfig": "storageConfig",
        "vpcConfig": _vpc,
        "encryptionConfig": lambda those: {"encryptionConfig": [those]},
        "enabledClusterLogTypes": _logging,
        "upgradePolicy": "upgradePolicy",
        "zonalShiftConfig": "zonalShiftConfig",
        "deletionProtection": "deletionProtection",
    }

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        subnets = cloud.client("ec2").describe_subnets(SubnetIds=inputs["vpcConfig"]["subnetIds"])
        cloud.client("kms").describe_key(KeyId=inputs["encryptionConfig"]["provider"]["keyArn"])
        for arn in (inputs["roleArn"], inputs["computeConfig"]["nodeRoleArn"]):
            cloud.client("iam").get_role(RoleName=arn.rsplit("/", 1)[-1])
        params = request(inputs, self._mapped, self.local)
        made = cloud.client("eks").create_cluster(**params, tags=cloud.tags(inputs))["cluster"]
        vpc = subnets["Subnets"][0]["VpcId"]
        # EKS makes a group for nodes and control plane, which others let in by its id.
        group = cloud.client("ec2").create_security_group(
            GroupName=f"eks-cluster-sg-{inputs['name']}",
            Description="EKS created security group",
            VpcId=vpc,
        )["GroupId"]
        return inputs["name"], {
            "arn": made["arn"],
            **_reached(cloud, made),
            "vpcConfig": {**inputs["vpcConfig"], "clusterSecurityGroupId": group, "vpcId": vpc},
        }

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("eks").describe_cluster(name=id_)
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        if old["version"] != new["version"]:
            cloud.validate("eks", "UpdateClusterVersion", {"name": id_, "version": new["version"]})
        for name in (
            "accessConfig",
            "vpcConfig",
            "enabledClusterLogTypes",
            "upgradePolicy",
            "zonalShiftConfig",
            "deletionProtection",
        ):
            # One kind of change a call: the service refuses several at once.
            if old.get(name) != new.get(name):
                params = request({name: new[name]}, self._mapped, self.local)
                cloud.validate("eks", "UpdateClusterConfig", {"name": id_, **params})
        return {"vpcConfig": {**old["vpcConfig"], **new["vpcConfig"]}}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("eks").delete_cluster(name=id_)
        cloud.client("ec2").delete_security_group(
            GroupId=state["vpcConfig"]["clusterSecurityGroupId"]
        )


class _OfCluster(Kind):
    """What belongs to a cluster that is there, and of which moto knows nothing."""

    operation = ""
    removal = ""
    keys: tuple[str, ...] = ()
    mapped: ClassVar[Mapped] = {}
    tagged = True

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        cloud.client("eks").describe_cluster(name=inputs["clusterName"])
        params = request(inputs, self.mapped, self.local)
        if self.tagged:
            params["tags"] = cloud.tags(inputs)
        cloud.validate("eks", self.operation, params)
        id_ = ":".join(inputs[key] for key in self.keys)
        cloud.shadow[self.operation, id_] = params
        return id_, self.outputs(cloud, id_)

    def outputs(self, cloud: Cloud, id_: str) -> Inputs:
        return {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        if (self.operation, id_) not in cloud.shadow:
            raise GoneError
        return {}

    def removed(self, state: Inputs) -> dict[str, Any]:
        return {key: state[key] for key in self.keys}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.validate("eks", self.removal, self.removed(state))
        del cloud.shadow[self.operation, id_]


class AccessEntry(_OfCluster):
    operation = "CreateAccessEntry"
    removal = "DeleteAccessEntry"
    keys = ("clusterName", "principalArn")
    mapped: ClassVar[Mapped] = {
        "clusterName": "clusterName",
        "principalArn": "principalArn",
        "type": "type",
    }


class AccessPolicyAssociation(_OfCluster):
    operation = "AssociateAccessPolicy"
    removal = "DisassociateAccessPolicy"
    keys = ("clusterName", "principalArn", "policyArn")
    mapped: ClassVar[Mapped] = {
        "clusterName": "clusterName",
        "principalArn": "principalArn",
        "policyArn": "policyArn",
        "accessScope": "accessScope",
    }
    tagged = False

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        entry = f"{inputs['clusterName']}:{inputs['principalArn']}"
        if (AccessEntry.operation, entry) not in cloud.shadow:
            raise ValueError(f"there is no access entry {entry}")
        return super().create(cloud, inputs)


class PodIdentityAssociation(_OfCluster):
    operation = "CreatePodIdentityAssociation"
    removal = "DeletePodIdentityAssociation"
    keys = ("clusterName", "namespace", "serviceAccount")
    mapped: ClassVar[Mapped] = {
        "clusterName": "clusterName",
        "namespace": "namespace",
        "serviceAccount": "serviceAccount",
        "roleArn": "roleArn",
    }

    def outputs(self, cloud: Cloud, id_: str) -> Inputs:
        return {"associationId": f"a-{abs(hash(id_)):x}"}

    def removed(self, state: Inputs) -> dict[str, Any]:
        return {"clusterName": state["clusterName"], "associationId": state["associationId"]}


def get_cluster(cloud: Cloud, name: str) -> dict[str, Any]:
    """Answer the look-up of a cluster by name."""
    found = cloud.client("eks").describe_cluster(name=name)["cluster"]
    (group,) = cloud.client("ec2").describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [f"eks-cluster-sg-{name}"]}]
    )["SecurityGroups"]
    reached = _reached(cloud, found)
    return {
        "id": name,
        "name": name,
        "arn": f"arn:aws:eks:{cloud.region}:{ACCOUNT}:cluster/{name}",
        "endpoint": reached["endpoint"],
        "certificateAuthorities": [reached["certificateAuthority"]],
        "vpcConfig": {"clusterSecurityGroupId": group["GroupId"]},
    }


KINDS: dict[str, Kind] = {
    "aws:eks/accessEntry:AccessEntry": AccessEntry(),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": AccessPolicyAssociation(),
    "aws:eks/cluster:Cluster": Cluster(),
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": PodIdentityAssociation(),
}
