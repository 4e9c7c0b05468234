"""Pod identity: an IAM role that pods of one Kubernetes service account take, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import eks, iam

from stacks.aws.documents import trust


@dataclass(frozen=True)
class PodIdentityArgs:
    """`policies` maps a name to a policy document."""

    account_id: str
    cluster: pulumi.Input[str]
    namespace: str
    service_account: str
    policies: Mapping[str, pulumi.Input[str]]


class PodIdentity(pulumi.ComponentResource):
    """A role with its policies, bound to a service account of a cluster."""

    role_arn: pulumi.Output[str]

    def __init__(
        self, name: str, args: PodIdentityArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:aws:PodIdentity", name, None, opts)
        children = pulumi.ResourceOptions(parent=self)
        role = iam.Role(
            name,
            assume_role_policy=trust(
                "pods.eks.amazonaws.com",
                ("sts:AssumeRole", "sts:TagSession"),
                {"StringEquals": {"aws:SourceAccount": args.account_id}},
            ),
            opts=children,
        )
        for policy, text in args.policies.items():
            iam.RolePolicy(f"{name}-{policy}", role=role.id, policy=text, opts=children)
        eks.PodIdentityAssociation(
            name,
            cluster_name=args.cluster,
            namespace=args.namespace,
            service_account=args.service_account,
            role_arn=role.arn,
            opts=children,
        )
        self.role_arn = role.arn
        self.register_outputs({"role_arn": role.arn})
