"""The cluster: EKS in Auto Mode, or one that exists already.

Auto Mode brings nodes, their upgrades, volumes, load balancers, DNS and the pod identity agent with
it. Who may use the API is said by access entries alone: whoever creates the cluster has no rights
in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import yaml
from pulumi_aws import cloudwatch, eks, iam

from stacks.aws.documents import trust
from stacks.aws.network import Placement

LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")

_CONTROL_PLANE_POLICIES = (
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSClusterPolicy",
    "AmazonEKSComputePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)
_NODE_POLICIES = ("AmazonEC2ContainerRegistryPullOnly", "AmazonEKSWorkerNodeMinimalPolicy")
_ADMINISTRATOR_POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


@dataclass(frozen=True)
class ClusterHandle:
    """What the rest needs of a cluster, ours or not; `security_group` is that of its pods."""

    name: pulumi.Input[str]
    endpoint: pulumi.Input[str]
    certificate_authority: pulumi.Input[str]
    security_group: pulumi.Input[str]


@dataclass(frozen=True)
class ClusterArgs:
    """The plan of a cluster.

    `administrators` are ARNs of IAM roles. The API is reached inside the VPC; from outside only
    from `public_cidrs`, and not at all without them.
    """

    cluster_name: str
    account_id: str
    placement: Placement
    version: str
    administrators: Sequence[str]
    public_cidrs: Sequence[str]
    secrets_key_arn: pulumi.Input[str]
    logs_key_arn: pulumi.Input[str]
    log_days: int
    durable: bool


class Cluster(pulumi.ComponentResource):
    """A cluster of our own; `handle` is what others need of it."""

    handle: ClusterHandle

    def __init__(
        self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:aws:Cluster", name, None, opts)
        self._name = name
        self._args = args
        self._children = pulumi.ResourceOptions(parent=self)
        control_plane, attachments = self._role(
            "control-plane",
            trust(
                "eks.amazonaws.com",
                ("sts:AssumeRole", "sts:TagSession"),
                {"StringEquals": {"aws:SourceAccount": args.account_id}},
            ),
            _CONTROL_PLANE_POLICIES,
        )
        node, of_node = self._role("node", trust("ec2.amazonaws.com"), _NODE_POLICIES)
        # EKS would make the group itself, without a key and kept for ever.
        logs = cloudwatch.LogGroup(
            f"{name}-logs",
            name=f"/aws/eks/{args.cluster_name}/cluster",
            retention_in_days=args.log_days,
            kms_key_id=args.logs_key_arn,
            opts=self._children,
        )
        cluster = self._declare_cluster(control_plane, node, [*attachments, *of_node, logs])
        self._declare_access(cluster)
        self.handle = ClusterHandle(
            name=cluster.name,
            endpoint=cluster.endpoint,
            certificate_authority=cluster.certificate_authority.apply(
                lambda authority: authority.data or ""
            ),
            security_group=cluster.vpc_config.apply(
                lambda config: config.cluster_security_group_id or ""
            ),
        )
        self.register_outputs(
            {
                "name": self.handle.name,
                "endpoint": self.handle.endpoint,
                "security_group": self.handle.security_group,
            }
        )

    def _role(
        self, suffix: str, trusted: str, policies: Sequence[str]
    ) -> tuple[iam.Role, list[pulumi.Resource]]:
        name = f"{self._name}-{suffix}"
        role = iam.Role(name, assume_role_policy=trusted, opts=self._children)
        attachments: list[pulumi.Resource] = [
            iam.RolePolicyAttachment(
                f"{name}-{policy}",
                role=role.name,
                policy_arn=f"arn:aws:iam::aws:policy/{policy}",
                opts=self._children,
            )
            for policy in policies
        ]
        return role, attachments

    def _declare_cluster(
        self, control_plane: iam.Role, node: iam.Role, after: Sequence[pulumi.Resource]
    ) -> eks.Cluster:
        args = self._args
        return eks.Cluster(
            self._name,
            name=args.cluster_name,
            version=args.version,
            role_arn=control_plane.arn,
            access_config=eks.ClusterAccessConfigArgs(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=False
            ),
            bootstrap_self_managed_addons=False,
            compute_config=eks.ClusterComputeConfigArgs(
                enabled=True, node_pools=["general-purpose", "system"], node_role_arn=node.arn
            ),
            kubernetes_network_config=eks.ClusterKubernetesNetworkConfigArgs(
                elastic_load_balancing=(
                    eks.ClusterKubernetesNetworkConfigElasticLoadBalancingArgs(enabled=True)
                )
            ),
            storage_config=eks.ClusterStorageConfigArgs(
                block_storage=eks.ClusterStorageConfigBlockStorageArgs(enabled=True)
            ),
            vpc_config=eks.ClusterVpcConfigArgs(
                subnet_ids=list(args.placement.private_subnet_ids),
                endpoint_private_access=True,
                endpoint_public_access=bool(args.public_cidrs),
                public_access_cidrs=list(args.public_cidrs) or None,
            ),
            encryption_config=eks.ClusterEncryptionConfigArgs(
                provider=eks.ClusterEncryptionConfigProviderArgs(key_arn=args.secrets_key_arn),
                resources=["secrets"],
            ),
            enabled_cluster_log_types=list(LOG_TYPES),
            upgrade_policy=eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
            zonal_shift_config=eks.ClusterZonalShiftConfigArgs(enabled=args.durable),
            deletion_protection=args.durable,
            # Rights must be there first, and stay until the cluster is gone.
            opts=pulumi.ResourceOptions(parent=self, protect=args.durable, depends_on=list(after)),
        )

    def _declare_access(self, cluster: eks.Cluster) -> None:
        for arn in self._args.administrators:
            name = f"{self._name}-administrator-{arn.rsplit('/', 1)[-1]}"
            entry = eks.AccessEntry(
                name,
                cluster_name=cluster.name,
                principal_arn=arn,
                type="STANDARD",
                opts=self._children,
            )
            eks.AccessPolicyAssociation(
                name,
                cluster_name=cluster.name,
                principal_arn=entry.principal_arn,
                policy_arn=_ADMINISTRATOR_POLICY,
                access_scope=eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
                opts=self._children,
            )


def existing_cluster(name: str, opts: pulumi.InvokeOptions) -> ClusterHandle:
    """Look up a cluster that this stack does not own."""
    found = eks.get_cluster_output(name=name, opts=opts)
    return ClusterHandle(
        name=name,
        endpoint=found.endpoint,
        certificate_authority=found.certificate_authorities.apply(lambda those: those[0].data),
        security_group=found.vpc_config.apply(lambda config: config.cluster_security_group_id),
    )


def kubeconfig(handle: ClusterHandle, region: str) -> pulumi.Output[str]:
    """Return a kubeconfig that holds no credentials: calls ask `aws` for a token."""

    def text(values: Sequence[str]) -> str:
        name, endpoint, authority = values
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": name,
                "clusters": [
                    {
                        "name": name,
                        "cluster": {
                            "server": endpoint,
                            "certificate-authority-data": authority,
                        },
                    }
                ],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                "users": [
                    {
                        "name": name,
                        "user": {
                            "exec": {
                                "apiVersion": "client.authentication.k8s.io/v1beta1",
                                "command": "aws",
                                "args": [
                                    "eks",
                                    "get-token",
                                    "--cluster-name",
                                    name,
                                    "--region",
                                    region,
                                ],
                                "interactiveMode": "Never",
                            }
                        },
                    }
                ],
            }
        )

    return pulumi.Output.all(handle.name, handle.endpoint, handle.certificate_authority).apply(text)
