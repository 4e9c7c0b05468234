"""Security groups that name each other: a rule's other side is always a group, never an address."""

from __future__ import annotations

import pulumi
from pulumi_aws import ec2, vpc


def security_group(
    name: str, description: str, vpc_id: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> ec2.SecurityGroup:
    """Declare a group without rules: nothing gets in, nothing goes out."""
    return ec2.SecurityGroup(name, description=description, vpc_id=vpc_id, opts=opts)


def let_in(
    name: str,
    group: pulumi.Input[str],
    client: pulumi.Input[str],
    port: int,
    opts: pulumi.ResourceOptions,
) -> vpc.SecurityGroupIngressRule:
    """Let members of the group `client` open TCP connections to `port` of members of `group`."""
    return vpc.SecurityGroupIngressRule(
        name,
        security_group_id=group,
        referenced_security_group_id=client,
        ip_protocol="tcp",
        from_port=port,
        to_port=port,
        description=f"{name}, port {port}",
        opts=opts,
    )
