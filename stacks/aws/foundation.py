"""Everything of a stack that lives in AWS, put together from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from stacks.aws.cache import Cache, CacheArgs
from stacks.aws.cluster import Cluster, ClusterArgs, ClusterHandle, existing_cluster, kubeconfig
from stacks.aws.database import Database, DatabaseArgs
from stacks.aws.encryption import LAST_SNAPSHOTS, PURPOSES, Encryption, EncryptionArgs
from stacks.aws.environments import ENVIRONMENTS, Environment
from stacks.aws.network import Network, NetworkArgs, Placement, existing_placement
from stacks.aws.provider import AccountArgs, provider
from stacks.aws.registry import Registry, RegistryArgs
from stacks.aws.security_groups import let_in
from stacks.settings import PROJECT, AwsSettings

_HTTPS = 443


@dataclass(frozen=True)
class FoundationArgs:
    """`stack` is the stack's name, `queue_prefix` the one of the queues' keys."""

    stack: str
    settings: AwsSettings
    queue_prefix: str


class Foundation(pulumi.ComponentResource):
    """Keys, network, cluster, database, queue and registry, each through the explicit provider."""

    aws: pulumi.ProviderResource
    placement: Placement
    cluster: ClusterHandle
    database: Database
    cache: Cache
    registry: Registry

    def __init__(
        self, name: str, args: FoundationArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        settings = args.settings
        aws = provider(
            f"{name}-provider",
            AccountArgs(
                account_id=settings.account_id,
                region=settings.region,
                environment=settings.environment,
                project=PROJECT,
                stack=args.stack,
            ),
        )
        super().__init__(
            "learning-platform:aws:Foundation",
            name,
            None,
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(providers=[aws])),
        )
        self.aws = aws
        self._name = name
        self._settings = settings
        self._environment = ENVIRONMENTS[settings.environment]
        # What must be unique in the account is named after the stack.
        self._identity = f"{PROJECT}-{args.stack}"
        self._durable = durable(settings)
        self._children = pulumi.ResourceOptions(parent=self)
        self._keys = Encryption(
            f"{name}-key",
            EncryptionArgs(
                settings.account_id,
                settings.region,
                protected=self._durable,
                retained=PURPOSES if self._environment.durable else LAST_SNAPSHOTS,
                snapshot_readers=settings.database.snapshot_readers,
            ),
            self._children,
        ).arns
        self.placement = self._declare_network(aws)
        self.cluster = self._declare_cluster(aws)
        clients = {"cluster": self.cluster.security_group}
        self._let_cluster_use_endpoints()
        self._let_clients_use_the_api()
        self.database = self._declare_database(clients)
        self.cache = self._declare_cache(clients, args.queue_prefix)
        self.registry = Registry(
            f"{name}-registry",
            RegistryArgs(self._identity, self._keys["registry"], self._durable),
            self._children,
        )
        self.kubeconfig = kubeconfig(self.cluster, settings.region)
        self.register_outputs(self.outputs())

    @property
    def database_key_arn(self) -> pulumi.Output[str]:
        """The key of the database, and of the secret with its master password."""
        return self._keys["database"]

    def outputs(self) -> dict[str, pulumi.Input[object]]:
        """Return where things are; nothing here is a secret."""
        return {
            "cluster_name": self.cluster.name,
            "kubeconfig": self.kubeconfig,
            "database_host": self.database.host,
            "database_replica_host": self.database.replica_host,
            "database_master_secret_arn": self.database.master_secret_arn,
            "queue_host": self.cache.host,
            "registry_url": self.registry.url,
        }

    def _declare_network(self, aws: pulumi.ProviderResource) -> Placement:
        existing = self._settings.network
        self._endpoints_group: pulumi.Output[str] | None = None
        if existing is not None:
            return existing_placement(
                existing.vpc_id,
                existing.private_subnet_ids,
                existing.database_subnet_ids,
                pulumi.InvokeOptions(provider=aws),
            )
        network = Network(
            f"{self._name}-network",
            NetworkArgs(
                account_id=self._settings.account_id,
                region=self._settings.region,
                cidr=self._settings.cidr,
                zones=self._settings.zones,
                zones_with_nat=self._environment.zones_with_nat,
                zones_with_endpoints=self._environment.zones_with_endpoints,
                log_days=self._environment.log_days,
                logs_key_arn=self._keys["logs"],
            ),
            # A destroy takes what nothing depends on first, and stops at what is protected: routes
            # and endpoints would be gone by then.
            pulumi.ResourceOptions(parent=self, protect=self._durable),
        )
        self._endpoints_group = network.endpoints_group
        return network.placement

    def _declare_cluster(self, aws: pulumi.ProviderResource) -> ClusterHandle:
        plan = self._settings.cluster
        if plan.existing is not None:
            return existing_cluster(plan.existing, pulumi.InvokeOptions(provider=aws))
        return Cluster(
            f"{self._name}-cluster",
            ClusterArgs(
                cluster_name=self._identity,
                account_id=self._settings.account_id,
                placement=self.placement,
                version=plan.version,
                administrators=plan.administrators,
                public_cidrs=[str(block) for block in plan.public_cidrs],
                secrets_key_arn=self._keys["cluster"],
                logs_key_arn=self._keys["logs"],
                log_days=self._environment.log_days,
                durable=self._durable,
            ),
            self._children,
        ).handle

    def _let_cluster_use_endpoints(self) -> None:
        if self._endpoints_group is not None:
            self._let_in(
                "endpoints-from-cluster", self._endpoints_group, self.cluster.security_group
            )

    def _let_clients_use_the_api(self) -> None:
        """Let in who runs Pulumi or kubectl within the network, to the endpoints too.

        Names like `sts` lead to the endpoints there.
        """
        plan = self._settings.cluster
        if plan.existing is None and not (plan.client_groups or plan.public_cidrs):
            pulumi.log.warn(
                "neither cluster.clientGroups nor cluster.publicCidrs is given: nobody but the"
                " cluster itself reaches its API (docs/bootstrap.md)",
                self,
            )
        places = {"api": self.cluster.security_group, "endpoints": self._endpoints_group}
        for client in plan.client_groups:
            for place, group in places.items():
                if group is not None:
                    self._let_in(f"{place}-from-{client}", group, client)

    def _let_in(self, way: str, group: pulumi.Input[str], client: pulumi.Input[str]) -> None:
        options = pulumi.ResourceOptions(parent=self, protect=self._durable)
        let_in(f"{self._name}-{way}", group, client, _HTTPS, options)

    def _declare_database(self, clients: Mapping[str, pulumi.Input[str]]) -> Database:
        plan, environment = self._settings.database, self._environment
        return Database(
            f"{self._name}-database",
            DatabaseArgs(
                account_id=self._settings.account_id,
                region=self._settings.region,
                placement=self.placement,
                clients=clients,
                key_arn=self._keys["database"],
                logs_key_arn=self._keys["logs"],
                log_days=environment.log_days,
                version=plan.version,
                instance_class=plan.instance_class or environment.database_class,
                replica_class=_replica_class(self._settings, environment),
                storage=plan.storage or environment.database_storage,
                storage_limit=plan.storage_limit or environment.database_storage_limit,
                multi_az=environment.database_multi_az,
                backup_days=environment.backup_days,
                password_generation=plan.password_generation,
                durable=self._durable,
                apply_immediately=plan.apply_immediately or not self._durable,
                snapshot=plan.restore_snapshot,
            ),
            self._children,
        )

    def _declare_cache(self, clients: Mapping[str, pulumi.Input[str]], queue_prefix: str) -> Cache:
        plan, environment = self._settings.queue, self._environment
        return Cache(
            f"{self._name}-queue",
            CacheArgs(
                identity=self._identity,
                placement=self.placement,
                clients=clients,
                key_arn=self._keys["queue"],
                logs_key_arn=self._keys["logs"],
                version=plan.version,
                node_type=plan.node_type or environment.queue_node_type,
                nodes=environment.queue_nodes,
                queue_prefix=queue_prefix,
                password_generation=plan.password_generation,
                snapshot_days=environment.snapshot_days,
                log_days=environment.log_days,
                durable=self._durable,
                last_snapshot=environment.durable,
            ),
            self._children,
        )


def durable(settings: AwsSettings) -> bool:
    """Tell whether what holds data is protected from being taken away."""
    return ENVIRONMENTS[settings.environment].durable and not settings.deletable


def _replica_class(settings: AwsSettings, environment: Environment) -> str | None:
    if not environment.database_replica:
        return None
    plan = settings.database
    return plan.replica_class or plan.instance_class or environment.database_class
