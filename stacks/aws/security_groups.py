"""Security groups that name each other: a rule's other side is always a group, never an address."""

from __future__ import annotations

from collections.abc import Mapping

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


def group_for_clients(
    name: str,
    description: str,
    vpc_id: pulumi.Input[str],
    clients: Mapping[str, pulumi.Input[str]],
    port: int,
    opts: pulumi.ResourceOptions,
    *,
    protect: bool,
) -> pulumi.Output[str]:
    """Declare a group that the groups of `clients` get in to at `port`, and return its id.

    `clients` are by name. With `protect` the engine does not take the ways in away.
    """
    group = security_group(name, description, vpc_id, opts)
    guarded = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(protect=protect))
    for client, client_group in clients.items():
        let_in(f"{name}-from-{client}", group.id, client_group, port, guarded)
    return group.id
