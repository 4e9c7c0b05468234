"""The queue's store: ElastiCache Valkey, reached over TLS by one user with a generated password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_random
from pulumi_aws import cloudwatch, elasticache

from stacks.aws.network import Placement
from stacks.aws.passwords import generated_password
from stacks.aws.security_groups import group_for_clients

PORT = 6379
USER = "workers"

PARAMETERS: Mapping[str, str] = {
    # BullMQ demands it: an evicted key is a lost job.
    "maxmemory-policy": "noeviction",
}


def access_string(queue_prefix: str) -> str:
    """Return what the user may do: everything to keys under `queue_prefix`, nothing dangerous.

    BullMQ also asks the server for its version and names its connections.
    """
    return (
        f"on ~{queue_prefix}:* resetchannels &* "
        "+@all -@dangerous -@admin +info +client|setname +client|list +client|setinfo"
    )


@dataclass(frozen=True)
class CacheArgs:
    """The plan of a queue's store.

    `identity` names what must be unique in the account. `version` is Valkey's, as `8.2`. `nodes` is
    the primary with its replicas; with more than one, a replica takes over in another zone.
    Another `password_generation` makes another password: connections that are open stay so. With
    `last_snapshot` it is saved once more before it is deleted.
    """

    identity: str
    placement: Placement
    clients: Mapping[str, pulumi.Input[str]]
    key_arn: pulumi.Input[str]
    logs_key_arn: pulumi.Input[str]
    version: str
    node_type: str
    nodes: int
    queue_prefix: str
    password_generation: int
    snapshot_days: int
    log_days: int
    durable: bool
    last_snapshot: bool


class Cache(pulumi.ComponentResource):
    """A Valkey; `url` holds the password and is secret."""

    url: pulumi.Output[str]
    host: pulumi.Output[str]
    identifier: pulumi.Output[str]

    def __init__(
        self, name: str, args: CacheArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:aws:Cache", name, None, opts)
        self._name = name
        self._args = args
        self._children = pulumi.ResourceOptions(parent=self)
        password = generated_password(name, args.password_generation, self._children)
        users = self._declare_users(password)
        group = self._declare_replication_group(users)
        self.host = group.primary_endpoint_address
        self.identifier = group.replication_group_id
        self.url = pulumi.Output.secret(
            pulumi.Output.format("rediss://{}:{}@{}:{}/0", USER, password, self.host, str(PORT))
        )
        self.register_outputs({"host": self.host, "identifier": self.identifier, "url": self.url})

    def _declare_users(self, password: pulumi.Output[str]) -> elasticache.UserGroup:
        user = elasticache.User(
            f"{self._name}-{USER}",
            user_id=f"{self._args.identity}-{USER}",
            user_name=USER,
            engine="valkey",
            access_string=access_string(self._args.queue_prefix),
            authentication_mode=elasticache.UserAuthenticationModeArgs(
                type="password", passwords=[password]
            ),
            opts=self._children,
        )
        # Without a user named `default`, which a Valkey group may do without, nobody else gets in.
        return elasticache.UserGroup(
            self._name,
            user_group_id=self._args.identity,
            engine="valkey",
            user_ids=[user.user_id],
            opts=self._children,
        )

    def _declare_replication_group(
        self, users: elasticache.UserGroup
    ) -> elasticache.ReplicationGroup:
        args = self._args
        group = group_for_clients(
            self._name,
            "The Valkey of the queue",
            args.placement.vpc_id,
            args.clients,
            PORT,
            self._children,
            protect=args.durable,
        )
        subnets = elasticache.SubnetGroup(
            self._name,
            description="The database subnets",
            subnet_ids=list(args.placement.database_subnet_ids),
            opts=self._children,
        )
        parameters = elasticache.ParameterGroup(
            self._name,
            family=f"valkey{args.version.split('.')[0]}",
            description="Never evicts",
            parameters=[
                elasticache.ParameterGroupParameterArgs(name=name, value=value)
                for name, value in PARAMETERS.items()
            ],
            opts=self._children,
        )
        several = args.nodes > 1
        return elasticache.ReplicationGroup(
            self._name,
            description="Queue of the learning platform",
            engine="valkey",
            engine_version=args.version,
            node_type=args.node_type,
            num_cache_clusters=args.nodes,
            automatic_failover_enabled=several,
            multi_az_enabled=several,
            port=PORT,
            subnet_group_name=subnets.name,
            security_group_ids=[group],
            parameter_group_name=parameters.name,
            at_rest_encryption_enabled=True,
            kms_key_id=args.key_arn,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            user_group_ids=[users.user_group_id],
            snapshot_retention_limit=args.snapshot_days,
            snapshot_window="01:00-02:00",
            maintenance_window="sun:02:30-sun:03:30",
            final_snapshot_identifier=self._last_snapshot(),
            auto_minor_version_upgrade=True,
            apply_immediately=not args.durable,
            log_delivery_configurations=self._log_deliveries(),
            opts=pulumi.ResourceOptions(parent=self, protect=args.durable),
        )

    def _last_snapshot(self) -> pulumi.Output[str] | None:
        """Return the name of the last snapshot; that of an earlier store may still be there."""
        if not self._args.last_snapshot:
            return None
        suffix = pulumi_random.RandomId(
            f"{self._name}-suffix", byte_length=4, opts=self._children
        ).hex
        return pulumi.Output.concat(f"{self._args.identity}-final-", suffix)

    def _log_deliveries(self) -> list[elasticache.ReplicationGroupLogDeliveryConfigurationArgs]:
        deliveries: list[elasticache.ReplicationGroupLogDeliveryConfigurationArgs] = []
        for log in ("engine-log", "slow-log"):
            group = cloudwatch.LogGroup(
                f"{self._name}-{log}",
                retention_in_days=self._args.log_days,
                kms_key_id=self._args.logs_key_arn,
                opts=self._children,
            )
            deliveries.append(
                elasticache.ReplicationGroupLogDeliveryConfigurationArgs(
                    destination=group.name,
                    destination_type="cloudwatch-logs",
                    log_format="json",
                    log_type=log,
                )
            )
        return deliveries
