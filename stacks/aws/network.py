"""The network: a VPC over three zones, with public, private and database subnets.

Public subnets hold NAT gateways and load balancers, private ones the cluster, database ones have no
route out of the VPC at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
from pulumi_aws import cloudwatch, ec2, iam

from stacks.aws.documents import allow, document, trust
from stacks.aws.security_groups import security_group

TIERS = ("public", "private", "database")

INTERFACE_ENDPOINTS = ("ecr.api", "ecr.dkr", "eks-auth", "logs", "secretsmanager", "sts")
"""What nodes and pods call all the time: image pulls, pod identity, logs, secrets, tokens."""

_EVERYWHERE = "0.0.0.0/0"


@dataclass(frozen=True)
class Placement:
    """Where to put things: a VPC, its private subnets (cluster) and its database subnets."""

    vpc_id: pulumi.Input[str]
    private_subnet_ids: Sequence[pulumi.Input[str]]
    database_subnet_ids: Sequence[pulumi.Input[str]]
    private_cidrs: Sequence[pulumi.Input[str]]
    database_cidrs: Sequence[pulumi.Input[str]]


@dataclass(frozen=True)
class NetworkArgs:
    """The plan of a network.

    `zones` are names as `eu-central-1a`: given, not looked up, for a zone that AWS adds must not
    move subnets. NAT gateways and interface endpoints stand in the first `zones_with_nat` and
    `zones_with_endpoints` of them.
    """

    account_id: str
    region: str
    cidr: IPv4Network
    zones: tuple[str, str, str]
    zones_with_nat: int
    zones_with_endpoints: int
    log_days: int
    logs_key_arn: pulumi.Input[str]


def subnet_cidrs(cidr: IPv4Network) -> dict[str, list[IPv4Network]]:
    """Divide `cidr`: a quarter for each private subnet, an eighth of the last for each other.

    A /16 gives private /18, public and database /21.
    """
    *private, rest = cidr.subnets(prefixlen_diff=2)
    small = list(rest.subnets(prefixlen_diff=3))
    return {"private": private, "public": small[:3], "database": small[3:6]}


class Network(pulumi.ComponentResource):
    """A VPC; `placement` says where its parts are, `endpoints_group` guards its endpoints."""

    placement: Placement
    endpoints_group: pulumi.Output[str]

    def __init__(
        self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:aws:Network", name, None, opts)
        self._name = name
        self._args = args
        self._children = pulumi.ResourceOptions(parent=self)
        self._vpc = ec2.Vpc(
            f"{name}-vpc",
            cidr_block=str(args.cidr),
            # Both are needed for endpoints to answer under the services' own names.
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={"Name": name},
            opts=self._children,
        )
        # The groups and routes a VPC comes with are emptied, so that nothing rests on them.
        ec2.DefaultSecurityGroup(
            f"{name}-default", vpc_id=self._vpc.id, ingress=[], egress=[], opts=self._children
        )
        ec2.DefaultRouteTable(
            f"{name}-default",
            default_route_table_id=self._vpc.default_route_table_id,
            routes=[],
            opts=self._children,
        )
        self._subnets = self._declare_subnets()
        tables = self._declare_routes()
        self._declare_endpoints(tables)
        self._declare_flow_log()
        self.placement = Placement(
            vpc_id=self._vpc.id,
            private_subnet_ids=[subnet.id for subnet in self._subnets["private"]],
            database_subnet_ids=[subnet.id for subnet in self._subnets["database"]],
            **_cidrs(args.cidr),
        )
        self.register_outputs(
            {
                "vpc_id": self._vpc.id,
                "private_subnet_ids": self.placement.private_subnet_ids,
                "database_subnet_ids": self.placement.database_subnet_ids,
            }
        )

    def _declare_subnets(self) -> dict[str, list[ec2.Subnet]]:
        # The tags by which load balancers find their subnets.
        roles = {
            "public": {"kubernetes.io/role/elb": "1"},
            "private": {"kubernetes.io/role/internal-elb": "1"},
            "database": {},
        }
        cidrs = subnet_cidrs(self._args.cidr)
        return {
            tier: [
                ec2.Subnet(
                    f"{self._name}-{tier}-{_letter(zone)}",
                    vpc_id=self._vpc.id,
                    availability_zone=zone,
                    cidr_block=str(block),
                    map_public_ip_on_launch=False,
                    tags={"Name": f"{self._name}-{tier}-{_letter(zone)}", **roles[tier]},
                    opts=self._children,
                )
                for zone, block in zip(self._args.zones, cidrs[tier], strict=True)
            ]
            for tier in TIERS
        }

    def _declare_routes(self) -> Mapping[str, Sequence[ec2.RouteTable]]:
        gateway = ec2.InternetGateway(
            f"{self._name}-internet", vpc_id=self._vpc.id, opts=self._children
        )
        public = self._route_table("public", self._subnets["public"])
        ec2.Route(
            f"{self._name}-public-internet",
            route_table_id=public.id,
            destination_cidr_block=_EVERYWHERE,
            gateway_id=gateway.id,
            opts=self._children,
        )
        nats = [
            self._nat(zone, subnet, gateway)
            for zone, subnet in list(zip(self._args.zones, self._subnets["public"], strict=True))[
                : self._args.zones_with_nat
            ]
        ]
        private: list[ec2.RouteTable] = []
        for index, zone in enumerate(self._args.zones):
            table = self._route_table(f"private-{_letter(zone)}", [self._subnets["private"][index]])
            ec2.Route(
                f"{self._name}-private-{_letter(zone)}-internet",
                route_table_id=table.id,
                destination_cidr_block=_EVERYWHERE,
                nat_gateway_id=nats[min(index, len(nats) - 1)].id,
                opts=self._children,
            )
            private.append(table)
        database = self._route_table("database", self._subnets["database"])
        return {"public": [public], "private": private, "database": [database]}

    def _route_table(self, suffix: str, subnets: Sequence[ec2.Subnet]) -> ec2.RouteTable:
        name = f"{self._name}-{suffix}"
        table = ec2.RouteTable(name, vpc_id=self._vpc.id, tags={"Name": name}, opts=self._children)
        for index, subnet in enumerate(subnets):
            zone = _letter(self._args.zones[index])
            ec2.RouteTableAssociation(
                name if len(subnets) == 1 else f"{name}-{zone}",
                route_table_id=table.id,
                subnet_id=subnet.id,
                opts=self._children,
            )
        return table

    def _nat(self, zone: str, subnet: ec2.Subnet, gateway: ec2.InternetGateway) -> ec2.NatGateway:
        name = f"{self._name}-nat-{_letter(zone)}"
        # An address, and a NAT gateway, work only once the VPC has its way out.
        after = pulumi.ResourceOptions(parent=self, depends_on=[gateway])
        address = ec2.Eip(name, domain="vpc", tags={"Name": name}, opts=after)
        return ec2.NatGateway(
            name,
            allocation_id=address.allocation_id,
            subnet_id=subnet.id,
            tags={"Name": name},
            opts=after,
        )

    def _declare_endpoints(self, tables: Mapping[str, Sequence[ec2.RouteTable]]) -> None:
        # Without a policy: image layers come from buckets that belong to AWS, by signed URLs.
        ec2.VpcEndpoint(
            f"{self._name}-endpoint-s3",
            vpc_id=self._vpc.id,
            service_name=f"com.amazonaws.{self._args.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables["private"]],
            tags={"Name": f"{self._name}-s3"},
            opts=self._children,
        )
        group = security_group(
            f"{self._name}-endpoints",
            "Interface endpoints of AWS services",
            self._vpc.id,
            self._children,
        )
        self.endpoints_group = group.id
        subnets = self._subnets["private"][: self._args.zones_with_endpoints]
        for service in INTERFACE_ENDPOINTS:
            ec2.VpcEndpoint(
                f"{self._name}-endpoint-{service}",
                vpc_id=self._vpc.id,
                service_name=f"com.amazonaws.{self._args.region}.{service}",
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=[subnet.id for subnet in subnets],
                security_group_ids=[group.id],
                policy=_endpoint_policy(self._args.account_id),
                tags={"Name": f"{self._name}-{service}"},
                opts=self._children,
            )

    def _declare_flow_log(self) -> None:
        name = f"{self._name}-flow-log"
        group = cloudwatch.LogGroup(
            name,
            retention_in_days=self._args.log_days,
            kms_key_id=self._args.logs_key_arn,
            opts=self._children,
        )
        role = iam.Role(
            name,
            assume_role_policy=trust(
                "vpc-flow-logs.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": self._args.account_id}},
            ),
            opts=self._children,
        )
        policy = iam.RolePolicy(
            name,
            role=role.id,
            policy=group.arn.apply(
                lambda arn: document(
                    allow(
                        ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
                        (arn, f"{arn}:*"),
                    )
                )
            ),
            opts=self._children,
        )
        ec2.FlowLog(
            name,
            vpc_id=self._vpc.id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=60,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )


def existing_placement(
    vpc_id: str,
    private_subnet_ids: Sequence[str],
    database_subnet_ids: Sequence[str],
    opts: pulumi.InvokeOptions,
) -> Placement:
    """Look up a network that this stack does not own."""

    def cidr(subnet_id: str) -> pulumi.Output[str]:
        return ec2.get_subnet_output(id=subnet_id, opts=opts).cidr_block

    return Placement(
        vpc_id,
        private_subnet_ids,
        database_subnet_ids,
        private_cidrs=[cidr(each) for each in private_subnet_ids],
        database_cidrs=[cidr(each) for each in database_subnet_ids],
    )


def _cidrs(cidr: IPv4Network) -> dict[str, list[pulumi.Input[str]]]:
    blocks = subnet_cidrs(cidr)
    return {f"{tier}_cidrs": [str(block) for block in blocks[tier]] for tier in TIERS[1:]}


def _endpoint_policy(account_id: str) -> str:
    """Return a policy that lets only this account's identities through an endpoint."""
    return document(
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "*",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalAccount": account_id}},
        }
    )


def _letter(zone: str) -> str:
    return zone[-1]
