# ruff: noqa: ARG002, the signatures are given
"""Valkey. Moto knows no parameter groups, user groups or changes of users: see `unchecked`."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.stacks.aws.kinds.cloud import ACCOUNT, Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, Mapped, request
from tests.stacks.stand_in import GoneError


class SubnetGroup(Kind):
    updatable = frozenset({"subnetIds", "description"})
    autonamed = "name"
    _mapped: ClassVar[Mapped] = {
        "name": "CacheSubnetGroupName",
        "description": "CacheSubnetGroupDescription",
        "subnetIds": "SubnetIds",
    }

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        cloud.client("ec2").describe_subnets(SubnetIds=inputs["subnetIds"])
        params = request(inputs, self._mapped, self.local)
        cloud.client("elasticache").create_cache_subnet_group(**params, Tags=cloud.tag_list(inputs))
        return inputs["name"], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("elasticache").describe_cache_subnet_groups(CacheSubnetGroupName=id_)
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.validate("elasticache", "DeleteCacheSubnetGroup", {"CacheSubnetGroupName": id_})


class ParameterGroup(Kind):
    updatable = frozenset({"parameters"})
    local = updatable
    autonamed = "name"

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {
                "name": "CacheParameterGroupName",
                "family": "CacheParameterGroupFamily",
                "description": "Description",
            },
            self.local,
        )
        cloud.validate(
            "elasticache",
            "CreateCacheParameterGroup",
            {**params, "Tags": cloud.tag_list(inputs)},
        )
        cloud.shadow["parameter group", inputs["name"]] = params
        self.update(cloud, inputs["name"], {}, inputs)
        return inputs["name"], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        if ("parameter group", id_) not in cloud.shadow:
            raise GoneError
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        cloud.validate(
            "elasticache",
            "ModifyCacheParameterGroup",
            {
                "CacheParameterGroupName": id_,
                "ParameterNameValues": [
                    {"ParameterName": each["name"], "ParameterValue": each["value"]}
                    for each in new["parameters"]
                ],
            },
        )
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.validate("elasticache", "DeleteCacheParameterGroup", {"CacheParameterGroupName": id_})
        del cloud.shadow["parameter group", id_]


def _authentication(mode: dict[str, Any]) -> dict[str, Any]:
    return {"AuthenticationMode": {"Type": mode["type"], "Passwords": mode["passwords"]}}


class User(Kind):
    updatable = frozenset({"accessString", "authenticationMode"})

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        _check_passwords(inputs)
        params = request(
            inputs,
            {
                "userId": "UserId",
                "userName": "UserName",
                "engine": "Engine",
                "accessString": "AccessString",
                "authenticationMode": _authentication,
            },
            self.local,
        )
        made = cloud.client("elasticache").create_user(**params, Tags=cloud.tag_list(inputs))
        cloud.shadow["user", inputs["userId"]] = inputs
        return inputs["userId"], {"arn": made["ARN"]}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("elasticache").describe_users(UserId=id_)
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        _check_passwords(new)
        cloud.validate(
            "elasticache",
            "ModifyUser",
            {
                "UserId": id_,
                "AccessString": new["accessString"],
                **_authentication(new["authenticationMode"]),
            },
        )
        cloud.shadow["user", id_] = new
        for kind, group in list(cloud.shadow):
            if kind == "replication group":
                _let_in(cloud, cloud.shadow[kind, group]["UserGroupIds"])
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("elasticache").delete_user(UserId=id_)
        del cloud.shadow["user", id_]


def _let_in(cloud: Cloud, groups: list[str]) -> None:
    """Make the users of user groups known to the server, where there is one."""
    if cloud.servers.queue is None:
        return
    for group in groups:
        for id_ in cloud.shadow["user group", group]["UserIds"]:
            user = cloud.shadow["user", id_]
            (password,) = user["authenticationMode"]["passwords"]
            cloud.servers.queue.set_user(user["userName"], password, user["accessString"])


def _check_passwords(inputs: Inputs) -> None:
    for password in inputs["authenticationMode"]["passwords"]:
        if not 16 <= len(password) <= 128:
            raise ValueError("a password has 16 to 128 characters")


class UserGroup(Kind):
    updatable = frozenset({"userIds"})

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {"userGroupId": "UserGroupId", "engine": "Engine", "userIds": "UserIds"},
            self.local,
        )
        for user in inputs["userIds"]:
            cloud.client("elasticache").describe_users(UserId=user)
        tags = cloud.tag_list(inputs)
        cloud.validate("elasticache", "CreateUserGroup", {**params, "Tags": tags})
        cloud.shadow["user group", inputs["userGroupId"]] = params
        return inputs["userGroupId"], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        if ("user group", id_) not in cloud.shadow:
            raise GoneError
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.validate("elasticache", "DeleteUserGroup", {"UserGroupId": id_})
        del cloud.shadow["user group", id_]


_CHANGEABLE: Mapped = {
    "description": "ReplicationGroupDescription",
    "engineVersion": "EngineVersion",
    "nodeType": "CacheNodeType",
    "automaticFailoverEnabled": "AutomaticFailoverEnabled",
    "multiAzEnabled": "MultiAZEnabled",
    "securityGroupIds": "SecurityGroupIds",
    "parameterGroupName": "CacheParameterGroupName",
    "snapshotRetentionLimit": "SnapshotRetentionLimit",
    "snapshotWindow": "SnapshotWindow",
    "maintenanceWindow": "PreferredMaintenanceWindow",
    "autoMinorVersionUpgrade": "AutoMinorVersionUpgrade",
    "logDeliveryConfigurations": lambda those: {
        "LogDeliveryConfigurations": [
            {
                "LogType": each["logType"],
                "LogFormat": each["logFormat"],
                "DestinationType": each["destinationType"],
                "DestinationDetails": {"CloudWatchLogsDetails": {"LogGroup": each["destination"]}},
            }
            for each in those
        ]
    },
}


class ReplicationGroup(Kind):
    updatable = frozenset({*_CHANGEABLE, "userGroupIds", "numCacheClusters"})
    local = frozenset({"applyImmediately", "finalSnapshotIdentifier"})
    autonamed = "replicationGroupId"
    longest_name = 40

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        self._check_references(cloud, inputs)
        params = request(
            inputs,
            {
                **_CHANGEABLE,
                "replicationGroupId": "ReplicationGroupId",
                "engine": "Engine",
                "numCacheClusters": "NumCacheClusters",
                "port": "Port",
                "subnetGroupName": "CacheSubnetGroupName",
                "atRestEncryptionEnabled": "AtRestEncryptionEnabled",
                "kmsKeyId": "KmsKeyId",
                "transitEncryptionEnabled": "TransitEncryptionEnabled",
                "transitEncryptionMode": "TransitEncryptionMode",
                "userGroupIds": "UserGroupIds",
            },
            self.local,
        )
        made = cloud.client("elasticache").create_replication_group(
            **params, Tags=cloud.tag_list(inputs)
        )
        id_ = inputs["replicationGroupId"]
        cloud.shadow["replication group", id_] = params
        _let_in(cloud, params["UserGroupIds"])
        server = cloud.servers.queue
        host = server.host if server else f"master.{id_}.cache.{cloud.region}.amazonaws.com"
        return id_, {
            "arn": made["ReplicationGroup"].get(
                "ARN", f"arn:aws:elasticache:{cloud.region}:{ACCOUNT}:replicationgroup:{id_}"
            ),
            "primaryEndpointAddress": host,
            "readerEndpointAddress": host.replace("master", "replica"),
        }

    def _check_references(self, cloud: Cloud, inputs: Inputs) -> None:
        """Look up what moto takes without looking."""
        for kind, names in (
            ("parameter group", [inputs["parameterGroupName"]]),
            ("user group", inputs["userGroupIds"]),
        ):
            for name in names:
                if (kind, name) not in cloud.shadow:
                    raise ValueError(f"there is no {kind} {name}")
        client = cloud.client("elasticache")
        client.describe_cache_subnet_groups(CacheSubnetGroupName=inputs["subnetGroupName"])
        cloud.client("ec2").describe_security_groups(GroupIds=inputs["securityGroupIds"])
        cloud.client("kms").describe_key(KeyId=inputs["kmsKeyId"])
        if inputs["automaticFailoverEnabled"] and inputs["numCacheClusters"] < 2:
            raise ValueError("failover needs a replica")

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        (found,) = cloud.client("elasticache").describe_replication_groups(ReplicationGroupId=id_)[
            "ReplicationGroups"
        ]
        if found["Status"] == "deleting":
            raise GoneError
        return {"nodeType": found["CacheNodeType"]}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        params = request(
            {name: value for name, value in new.items() if name in _CHANGEABLE},
            _CHANGEABLE,
            self.local,
        )
        cloud.client("elasticache").modify_replication_group(
            ReplicationGroupId=id_, ApplyImmediately=new["applyImmediately"], **params
        )
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        params: dict[str, Any] = {"ReplicationGroupId": id_}
        if state.get("finalSnapshotIdentifier"):
            params["FinalSnapshotIdentifier"] = state["finalSnapshotIdentifier"]
        cloud.client("elasticache").delete_replication_group(**params)
        del cloud.shadow["replication group", id_]


KINDS: dict[str, Kind] = {
    "aws:elasticache/parameterGroup:ParameterGroup": ParameterGroup(),
    "aws:elasticache/replicationGroup:ReplicationGroup": ReplicationGroup(),
    "aws:elasticache/subnetGroup:SubnetGroup": SubnetGroup(),
    "aws:elasticache/user:User": User(),
    "aws:elasticache/userGroup:UserGroup": UserGroup(),
}
