# ruff: noqa: ARG002, the signatures are given
"""Postgres."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from tests.stacks.aws.kinds.cloud import Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, Mapped, request


class SubnetGroup(Kind):
    updatable = frozenset({"subnetIds", "description"})
    autonamed = "name"
    _mapped: ClassVar[Mapped] = {
        "name": "DBSubnetGroupName",
        "description": "DBSubnetGroupDescription",
        "subnetIds": "SubnetIds",
    }

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(inputs, self._mapped, self.local)
        made = cloud.client("rds").create_db_subnet_group(**params, Tags=cloud.tag_list(inputs))
        return inputs["name"], {"arn": made["DBSubnetGroup"]["DBSubnetGroupArn"]}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("rds").describe_db_subnet_groups(DBSubnetGroupName=id_)
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        cloud.client("rds").modify_db_subnet_group(**request(new, self._mapped, self.local))
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("rds").delete_db_subnet_group(DBSubnetGroupName=id_)


class ParameterGroup(Kind):
    updatable = frozenset({"parameters"})
    local = updatable
    autonamed = "name"

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {
                "name": "DBParameterGroupName",
                "family": "DBParameterGroupFamily",
                "description": "Description",
            },
            self.local,
        )
        made = cloud.client("rds").create_db_parameter_group(**params, Tags=cloud.tag_list(inputs))
        self.update(cloud, inputs["name"], {}, inputs)
        return inputs["name"], {"arn": made["DBParameterGroup"]["DBParameterGroupArn"]}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("rds").describe_db_parameter_groups(DBParameterGroupName=id_)
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        parameters = [
            {
                "ParameterName": each["name"],
                "ParameterValue": each["value"],
                "ApplyMethod": each["applyMethod"],
            }
            for each in new["parameters"]
        ]
        # The service takes twenty at a time.
        for start in range(0, len(parameters), 20):
            cloud.client("rds").modify_db_parameter_group(
                DBParameterGroupName=id_, Parameters=parameters[start : start + 20]
            )
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("rds").delete_db_parameter_group(DBParameterGroupName=id_)


_BOTH = {
    "identifier": "DBInstanceIdentifier",
    "instanceClass": "DBInstanceClass",
    "autoMinorVersionUpgrade": "AutoMinorVersionUpgrade",
    "iamDatabaseAuthenticationEnabled": "EnableIAMDatabaseAuthentication",
    "vpcSecurityGroupIds": "VpcSecurityGroupIds",
    "publiclyAccessible": "PubliclyAccessible",
    "caCertIdentifier": "CACertificateIdentifier",
    "parameterGroupName": "DBParameterGroupName",
    "multiAz": "MultiAZ",
    "storageType": "StorageType",
    "maxAllocatedStorage": "MaxAllocatedStorage",
    "copyTagsToSnapshot": "CopyTagsToSnapshot",
    "deletionProtection": "DeletionProtection",
    "monitoringInterval": "MonitoringInterval",
    "monitoringRoleArn": "MonitoringRoleArn",
    "performanceInsightsEnabled": "EnablePerformanceInsights",
    "performanceInsightsKmsKeyId": "PerformanceInsightsKMSKeyId",
    "performanceInsightsRetentionPeriod": "PerformanceInsightsRetentionPeriod",
}
_PRIMARY = {
    "backupRetentionPeriod": "BackupRetentionPeriod",
    "backupWindow": "PreferredBackupWindow",
    "maintenanceWindow": "PreferredMaintenanceWindow",
    "allocatedStorage": "AllocatedStorage",
    "engineVersion": "EngineVersion",
    "manageMasterUserPassword": "ManageMasterUserPassword",
    "masterUserSecretKmsKeyId": "MasterUserSecretKmsKeyId",
    "password": "MasterUserPassword",
}
_BOTH_CREATED = {
    "port": "Port",
    "enabledCloudwatchLogsExports": "EnableCloudwatchLogsExports",
}
_CREATED = {
    **_BOTH_CREATED,
    "engine": "Engine",
    "dbName": "DBName",
    "username": "MasterUsername",
    "dbSubnetGroupName": "DBSubnetGroupName",
    "storageEncrypted": "StorageEncrypted",
    "kmsKeyId": "KmsKeyId",
}


def resource_id(identifier: str) -> str:
    """Return what policies name an instance by: its own, where moto's is the same for all."""
    return f"db-{hashlib.sha256(identifier.encode()).hexdigest()[:26].upper()}"


def _described(cloud: Cloud, identifier: str) -> dict[str, Any]:
    """Return an instance as RDS describes it."""
    client = cloud.client("rds")
    (found,) = client.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
    return found


class Instance(Kind):
    updatable = frozenset(
        {*_BOTH, *_PRIMARY, "enabledCloudwatchLogsExports"} - {"identifier", "port"}
    )
    local = frozenset(
        {
            "allowMajorVersionUpgrade",
            "applyImmediately",
            "deleteAutomatedBackups",
            "finalSnapshotIdentifier",
            "skipFinalSnapshot",
        }
    )
    autonamed = "identifier"
    longest_name = 63

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        self._check_references(cloud, inputs)
        if "replicateSourceDb" in inputs:
            self._create_replica(cloud, inputs)
        elif "snapshotIdentifier" in inputs:
            self._restore(cloud, inputs)
        else:
            params = request(inputs, {**_BOTH, **_PRIMARY, **_CREATED}, self.local)
            cloud.client("rds").create_db_instance(**params, Tags=cloud.tag_list(inputs))
            if cloud.servers.database is not None:
                cloud.servers.database.create(inputs["dbName"], inputs["username"])
        self._set_password(cloud, inputs)
        return inputs["identifier"], self._outputs(cloud, inputs["identifier"])

    def _set_password(self, cloud: Cloud, inputs: Inputs) -> None:
        if cloud.servers.database is not None and "password" in inputs:
            cloud.servers.database.set_password(inputs["username"], inputs["password"])

    def _check_references(self, cloud: Cloud, inputs: Inputs) -> None:
        """Look up what moto takes without looking."""
        cloud.client("ec2").describe_security_groups(GroupIds=inputs["vpcSecurityGroupIds"])
        for name in ("kmsKeyId", "masterUserSecretKmsKeyId", "performanceInsightsKmsKeyId"):
            if name in inputs:
                cloud.client("kms").describe_key(KeyId=inputs[name])
        role = inputs["monitoringRoleArn"].rsplit("/", 1)[-1]
        cloud.client("iam").get_role(RoleName=role)

    def _create_replica(self, cloud: Cloud, inputs: Inputs) -> None:
        if _described(cloud, inputs["replicateSourceDb"]).get("MasterUserSecret"):
            raise ValueError(
                "InvalidParameterValue: Creating read replicas for source instance where"
                " ManageMasterUserPassword is enabled is not supported"
            )
        # Encrypted as its source is: within a region the request has no say in it.
        params = request(
            {name: value for name, value in inputs.items() if name != "storageEncrypted"},
            {**_BOTH, **_BOTH_CREATED, "replicateSourceDb": "SourceDBInstanceIdentifier"},
            self.local,
        )
        cloud.client("rds").create_db_instance_read_replica(**params, Tags=cloud.tag_list(inputs))

    def _restore(self, cloud: Cloud, inputs: Inputs) -> None:
        """Restore from a snapshot and then change the rest, as the provider does."""
        (snapshot,) = cloud.client("rds").describe_db_snapshots(
            DBSnapshotIdentifier=inputs["snapshotIdentifier"]
        )["DBSnapshots"]
        if snapshot.get("KmsKeyId") != inputs["kmsKeyId"]:
            raise ValueError(
                f"the snapshot is encrypted with {snapshot.get('KmsKeyId')}, not with "
                f"{inputs['kmsKeyId']}: the provider would replace the database again and again"
            )
        at_once = {
            "identifier": "DBInstanceIdentifier",
            "snapshotIdentifier": "DBSnapshotIdentifier",
            **{name: _BOTH[name] for name in ("instanceClass", "publiclyAccessible", "multiAz")},
            "vpcSecurityGroupIds": "VpcSecurityGroupIds",
            "dbSubnetGroupName": "DBSubnetGroupName",
            "port": "Port",
            "engine": "Engine",
            "storageType": "StorageType",
            "parameterGroupName": "DBParameterGroupName",
            "deletionProtection": "DeletionProtection",
        }
        params = request(
            {name: value for name, value in inputs.items() if name in at_once}, at_once, self.local
        )
        cloud.client("rds").restore_db_instance_from_db_snapshot(
            **params, Tags=cloud.tag_list(inputs)
        )
        self._modify(cloud, inputs["identifier"], inputs)

    def _modify(self, cloud: Cloud, id_: str, inputs: Inputs) -> None:
        changeable = {**_BOTH, **_PRIMARY}
        params: dict[str, Any] = {
            changeable[name]: value
            for name, value in inputs.items()
            if name in changeable and name != "identifier"
        }
        at_once = inputs.get("applyImmediately", False)
        if not at_once:
            # Moto does at once what waits for the window. What restarts it is looked at here.
            params.pop("EngineVersion", None)
        cloud.client("rds").modify_db_instance(
            DBInstanceIdentifier=id_,
            ApplyImmediately=at_once,
            AllowMajorVersionUpgrade=inputs.get("allowMajorVersionUpgrade", False),
            **params,
        )

    def _check_family(self, cloud: Cloud, id_: str, new: Inputs) -> None:
        """Refuse a group of parameters for another major version than the engine then has.

        A replica is upgraded with its source, when that is: at once or in the window.
        """
        client = cloud.client("rds")
        (group,) = client.describe_db_parameter_groups(
            DBParameterGroupName=new["parameterGroupName"]
        )["DBParameterGroups"]
        found = _described(cloud, new.get("replicateSourceDb", id_))
        version = new.get("engineVersion", found["EngineVersion"])
        if group["DBParameterGroupFamily"] != f"postgres{version.partition('.')[0]}":
            raise ValueError(
                f"The parameter group {new['parameterGroupName']} with DBParameterGroupFamily"
                f" {group['DBParameterGroupFamily']} can't be used for this instance"
            )

    def _outputs(self, cloud: Cloud, id_: str) -> Inputs:
        found = _described(cloud, id_)
        secret, server = found.get("MasterUserSecret"), cloud.servers.database
        return {
            "arn": found["DBInstanceArn"],
            "address": server.host(found) if server else found["Endpoint"]["Address"],
            "resourceId": resource_id(id_),
            "masterUserSecrets": [{"secretArn": secret["SecretArn"]}] if secret else [],
        }

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        found = _described(cloud, id_)
        live = {
            "instanceClass": found["DBInstanceClass"],
            "deletionProtection": found["DeletionProtection"],
            "publiclyAccessible": found["PubliclyAccessible"],
        }
        if "replicateSourceDb" not in state:
            live["multiAz"] = found["MultiAZ"]
            live["backupRetentionPeriod"] = found["BackupRetentionPeriod"]
        return {name: value for name, value in live.items() if name in state}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        self._check_family(cloud, id_, new)
        self._modify(cloud, id_, new)
        self._set_password(cloud, new)
        return self._outputs(cloud, id_)

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        params: dict[str, Any] = {"SkipFinalSnapshot": state["skipFinalSnapshot"]}
        if not state["skipFinalSnapshot"]:
            params["FinalDBSnapshotIdentifier"] = state["finalSnapshotIdentifier"]
        if "deleteAutomatedBackups" in state:
            params["DeleteAutomatedBackups"] = state["deleteAutomatedBackups"]
        cloud.client("rds").delete_db_instance(DBInstanceIdentifier=id_, **params)


class SnapshotCopy(Kind):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {
                "sourceDbSnapshotIdentifier": "SourceDBSnapshotIdentifier",
                "targetDbSnapshotIdentifier": "TargetDBSnapshotIdentifier",
                "kmsKeyId": "KmsKeyId",
            },
            self.local,
        )
        made = cloud.client("rds").copy_db_snapshot(**params, Tags=cloud.tag_list(inputs))
        arn = made["DBSnapshot"]["DBSnapshotArn"]
        return inputs["targetDbSnapshotIdentifier"], {"dbSnapshotArn": arn}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("rds").describe_db_snapshots(DBSnapshotIdentifier=id_)
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("rds").delete_db_snapshot(DBSnapshotIdentifier=id_)


KINDS: dict[str, Kind] = {
    "aws:rds/snapshotCopy:SnapshotCopy": SnapshotCopy(),
    "aws:rds/instance:Instance": Instance(),
    "aws:rds/parameterGroup:ParameterGroup": ParameterGroup(),
    "aws:rds/subnetGroup:SubnetGroup": SubnetGroup(),
}
