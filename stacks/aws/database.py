"""The database: RDS Postgres, and in prod a standby in another zone and a read replica.

Its master password is in Secrets Manager, read by one step; our processes log in by IAM tokens.
RDS makes and rotates it where it may: no replica can be made of a database whose password RDS
manages, so with a replica it is the stack's (`stacks/aws/master_secret.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_random
from pulumi_aws import cloudwatch, iam, rds

from stacks.aws.documents import allow, document, trust
from stacks.aws.master_secret import declare_secret
from stacks.aws.network import Placement
from stacks.aws.passwords import generated_password
from stacks.aws.security_groups import group_for_clients

PORT = 5432
DATABASE = "learning_platform"
ADMINISTRATOR = "platform_administrator"

PARAMETERS: Mapping[str, str] = {
    # Clients: TLS only, SCRAM only.
    "rds.force_ssl": "1",
    "rds.accepted_password_auth_method": "scram",
    # What to see in the log: slow statements, waits for locks, spills, long vacuums.
    "log_min_duration_statement": "1000",
    "log_lock_waits": "1",
    "log_temp_files": "10240",
    "log_autovacuum_min_duration": "10000",
    "track_io_timing": "1",
    # Insert-only months must be vacuumed (for their visibility map) long before they are a fifth
    # larger, and there are many tables for the workers to get round to.
    "autovacuum_max_workers": "6",
    "autovacuum_naptime": "15",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_cost_limit": "2000",
}
"""Parameters that take effect at once."""

LOGS = ("postgresql", "upgrade")
"""The logs that RDS sends to CloudWatch."""

STATIC_PARAMETERS: Mapping[str, str] = {
    "shared_preload_libraries": "pg_stat_statements",
    # A statement over all months locks each partition and each of its indexes.
    "max_locks_per_transaction": "256",
    # The application's change feeds; a slot that nobody reads must not fill the disk.
    "rds.logical_replication": "1",
    "max_slot_wal_keep_size": "20480",
}
"""Parameters that take effect at the next restart."""


@dataclass(frozen=True)
class DatabaseArgs:
    """The plan of a database.

    `version` is the major version; minor ones follow in the maintenance window. `clients` maps a
    name to the security group that may connect. Storage is in GiB and grows up to the limit by
    itself. Another `password_generation` makes another master password, where that is the stack's.
    `snapshot` is the one to start from, copied first under the key `key_arn`; another one
    replaces the database, which only an environment that is not `durable` allows. Changes that
    restart it wait for the maintenance window unless `apply_immediately`.
    """

    account_id: str
    region: str
    placement: Placement
    clients: Mapping[str, pulumi.Input[str]]
    key_arn: pulumi.Input[str]
    logs_key_arn: pulumi.Input[str]
    log_days: int
    version: str
    instance_class: str
    replica_class: str | None
    storage: int
    storage_limit: int
    multi_az: bool
    backup_days: int
    password_generation: int
    durable: bool
    apply_immediately: bool
    snapshot: str | None = None


class Database(pulumi.ComponentResource):
    """A Postgres; `host` and `replica_host` say where, `connect_policy` who may log in."""

    host: pulumi.Output[str]
    replica_host: pulumi.Output[str] | None
    master_secret_arn: pulumi.Output[str]
    identifier: pulumi.Output[str]

    def __init__(
        self, name: str, args: DatabaseArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:aws:Database", name, None, opts)
        self._name = name
        self._args = args
        self._children = pulumi.ResourceOptions(parent=self)
        self._group = group_for_clients(
            name,
            "The Postgres database",
            args.placement.vpc_id,
            args.clients,
            PORT,
            self._children,
            protect=args.durable,
        )
        self._parameters = self._declare_parameters()
        self._monitoring_role = self._declare_monitoring_role()
        self._password = self._declare_password()
        self._primary = self._declare_primary()
        self.host = self._primary.address
        self.identifier = self._primary.identifier
        self.master_secret_arn = self._declare_master_secret()
        self._resource_ids = [self._primary.resource_id]
        self.replica_host = None
        if args.replica_class is not None:
            replica = self._declare_replica(args.replica_class)
            self.replica_host = replica.address
            self._resource_ids.append(replica.resource_id)
        self.register_outputs(
            {
                "host": self.host,
                "replica_host": self.replica_host,
                "identifier": self.identifier,
                "master_secret_arn": self.master_secret_arn,
            }
        )

    def connect_policy(self, role: str, *, replica: bool = False) -> pulumi.Output[str]:
        """Return the IAM policy of who may log in as the database role `role`, and no other.

        With `replica` at the replica too, if there is one.
        """
        prefix = f"arn:aws:rds-db:{self._args.region}:{self._args.account_id}:dbuser"
        places = self._resource_ids if replica else self._resource_ids[:1]
        return pulumi.Output.all(*places).apply(
            lambda ids: document(
                allow(("rds-db:connect",), [f"{prefix}:{identity}/{role}" for identity in ids])
            )
        )

    def _declare_parameters(self) -> rds.ParameterGroup:
        static = [
            rds.ParameterGroupParameterArgs(name=name, value=value, apply_method="pending-reboot")
            for name, value in STATIC_PARAMETERS.items()
        ]
        dynamic = [
            rds.ParameterGroupParameterArgs(name=name, value=value, apply_method="immediate")
            for name, value in PARAMETERS.items()
        ]
        return rds.ParameterGroup(
            self._name,
            family=f"postgres{self._args.version}",
            description="Partitioned tables, TLS only, logical replication",
            parameters=[*dynamic, *static],
            # A group is replaced with its family. RDS lets go of the old one when it restarts the
            # database, maybe days later.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=self._args.durable),
        )

    def _declare_monitoring_role(self) -> iam.Role:
        name = f"{self._name}-monitoring"
        role = iam.Role(
            name,
            assume_role_policy=trust(
                "monitoring.rds.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": self._args.account_id}},
            ),
            opts=self._children,
        )
        attachment = iam.RolePolicyAttachment(
            name,
            role=role.name,
            policy_arn="arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole",
            opts=self._children,
        )
        self._monitoring_attachment = attachment
        return role

    def _declare_password(self) -> pulumi.Output[str] | None:
        """Return the master password, None where RDS makes it."""
        if self._args.replica_class is None:
            return None
        return generated_password(self._name, self._args.password_generation, self._children)

    def _declare_master_secret(self) -> pulumi.Output[str]:
        if self._password is None:
            return self._primary.master_user_secrets.apply(
                lambda secrets: (secrets[0].secret_arn or "") if secrets else ""
            )
        return declare_secret(
            self._name,
            ADMINISTRATOR,
            self._password,
            self._args.key_arn,
            # The database knows a new password before anybody is told.
            pulumi.ResourceOptions(
                parent=self, protect=self._args.durable, depends_on=[self._primary]
            ),
        )

    def _declare_primary(self) -> rds.Instance:
        args = self._args
        subnets = rds.SubnetGroup(
            self._name,
            description="The database subnets",
            subnet_ids=list(args.placement.database_subnet_ids),
            opts=self._children,
        )
        # Another snapshot makes another database, with a name and a last snapshot of its own.
        suffix = pulumi_random.RandomId(
            f"{self._name}-suffix",
            byte_length=4,
            keepers={"snapshot": args.snapshot or ""},
            opts=self._children,
        ).hex
        identifier = pulumi.Output.concat(f"{self._name}-", suffix)
        snapshot = None
        if args.snapshot is not None:
            # A restored database keeps the key of its snapshot, so that must be ours.
            snapshot = rds.SnapshotCopy(
                f"{self._name}-restored",
                source_db_snapshot_identifier=args.snapshot,
                target_db_snapshot_identifier=pulumi.Output.concat(
                    f"{self._name}-restored-", suffix
                ),
                kms_key_id=args.key_arn,
                opts=self._children,
            ).target_db_snapshot_identifier
        return rds.Instance(
            self._name,
            identifier=identifier,
            engine="postgres",
            engine_version=args.version,
            auto_minor_version_upgrade=True,
            # A permission, not a wish: the major version changes when the settings say so.
            allow_major_version_upgrade=True,
            instance_class=args.instance_class,
            # A restored database has the name it was saved with.
            db_name=DATABASE if args.snapshot is None else None,
            username=ADMINISTRATOR if args.snapshot is None else None,
            snapshot_identifier=snapshot,
            manage_master_user_password=True if self._password is None else None,
            master_user_secret_kms_key_id=args.key_arn if self._password is None else None,
            password=self._password,
            iam_database_authentication_enabled=True,
            port=PORT,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[self._group],
            publicly_accessible=False,
            ca_cert_identifier="rds-ca-rsa2048-g1",
            parameter_group_name=self._parameters.name,
            multi_az=args.multi_az,
            storage_type="gp3",
            allocated_storage=args.storage,
            max_allocated_storage=args.storage_limit,
            storage_encrypted=True,
            kms_key_id=args.key_arn,
            backup_retention_period=args.backup_days,
            backup_window="01:00-02:00",
            maintenance_window="sun:02:30-sun:03:30",
            copy_tags_to_snapshot=True,
            delete_automated_backups=not args.durable,
            deletion_protection=args.durable,
            skip_final_snapshot=False,
            final_snapshot_identifier=pulumi.Output.concat(f"{self._name}-final-", suffix),
            apply_immediately=args.apply_immediately,
            monitoring_interval=60,
            monitoring_role_arn=self._monitoring_role.arn,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=args.key_arn,
            performance_insights_retention_period=7,
            enabled_cloudwatch_logs_exports=list(LOGS),
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.durable,
                depends_on=[
                    self._monitoring_attachment,
                    *self._declare_logs(self._name, identifier),
                ],
            ),
        )

    def _declare_logs(self, name: str, identifier: pulumi.Output[str]) -> list[pulumi.Resource]:
        """Declare the groups that RDS would make itself, without a key and kept for ever."""
        return [
            cloudwatch.LogGroup(
                f"{name}-{log}-log",
                name=pulumi.Output.concat("/aws/rds/instance/", identifier, f"/{log}"),
                retention_in_days=self._args.log_days,
                kms_key_id=self._args.logs_key_arn,
                opts=self._children,
            )
            for log in LOGS
        ]

    def _declare_replica(self, instance_class: str) -> rds.Instance:
        """Declare a replica for long reads; protected, for a destroy would take it first."""
        args = self._args
        name = f"{self._name}-replica"
        identifier = pulumi.Output.concat(self._primary.identifier, "-replica")
        return rds.Instance(
            name,
            identifier=identifier,
            replicate_source_db=self._primary.identifier,
            instance_class=instance_class,
            auto_minor_version_upgrade=True,
            iam_database_authentication_enabled=True,
            port=PORT,
            vpc_security_group_ids=[self._group],
            publicly_accessible=False,
            ca_cert_identifier="rds-ca-rsa2048-g1",
            parameter_group_name=self._parameters.name,
            multi_az=False,
            apply_immediately=args.apply_immediately,
            storage_type="gp3",
            storage_encrypted=True,
            max_allocated_storage=args.storage_limit,
            copy_tags_to_snapshot=True,
            deletion_protection=args.durable,
            skip_final_snapshot=True,
            monitoring_interval=60,
            monitoring_role_arn=self._monitoring_role.arn,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=args.key_arn,
            performance_insights_retention_period=7,
            enabled_cloudwatch_logs_exports=list(LOGS),
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.durable,
                depends_on=self._declare_logs(name, identifier),
            ),
        )
