"""The network: three zones, ways out, endpoints, and groups that name each other."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest

from stacks.aws.network import INTERFACE_ENDPOINTS, subnet_cidrs
from tests.stacks.aws.mocks import ZONES, foundation

ENVIRONMENTS = ("staging", "prod")
NETWORK = "platform-network"


@pytest.mark.parametrize("cidr", ["10.20.0.0/16", "10.0.0.0/20"])
def test_subnets_do_not_overlap_and_lie_within_the_network(cidr: str) -> None:
    network = IPv4Network(cidr)
    blocks = [block for tier in subnet_cidrs(network).values() for block in tier]
    assert len(blocks) == 9
    for index, block in enumerate(blocks):
        assert block.subnet_of(network)
        assert not any(block.overlaps(other) for other in blocks[:index])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_kind_of_subnet_is_in_three_zones_and_gives_no_public_addresses(
    environment: str,
) -> None:
    subnets = foundation(environment)[0].of("ec2/subnet:Subnet")
    for tier in ("public", "private", "database"):
        found = [
            subnet.inputs
            for name, subnet in subnets.items()
            if name.startswith(f"{NETWORK}-{tier}-")
        ]
        assert {subnet["availabilityZone"] for subnet in found} == set(ZONES)
        assert not any(subnet["mapPublicIpOnLaunch"] for subnet in found)


@pytest.mark.parametrize(("environment", "zones"), [("staging", 1), ("prod", 3)])
def test_prod_has_a_nat_gateway_in_every_zone_and_staging_one(environment: str, zones: int) -> None:
    declarations, _ = foundation(environment)
    assert len(declarations.of("ec2/natGateway:NatGateway")) == zones
    used = [
        declarations.one("ec2/route:Route", f"{NETWORK}-private-{letter}-internet")["natGatewayId"]
        for letter in "abc"
    ]
    assert len(set(used)) == zones


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_database_subnets_have_no_way_out(environment: str) -> None:
    routes = foundation(environment)[0].of("ec2/route:Route")
    assert {route.inputs["routeTableId"] for route in routes.values()} == {
        f"{NETWORK}-public-id",
        *(f"{NETWORK}-private-{letter}-id" for letter in "abc"),
    }
    associations = foundation(environment)[0].of("ec2/routeTableAssociation:RouteTableAssociation")
    assert [
        associations[f"{NETWORK}-database-{letter}"].inputs["routeTableId"] for letter in "abc"
    ] == [f"{NETWORK}-database-id"] * 3


@pytest.mark.parametrize(("environment", "zones"), [("staging", 1), ("prod", 3)])
def test_services_are_reached_by_endpoints_that_only_this_account_may_use(
    environment: str, zones: int
) -> None:
    endpoints = foundation(environment)[0].of("ec2/vpcEndpoint:VpcEndpoint")
    gateway = endpoints[f"{NETWORK}-endpoint-s3"].inputs
    assert gateway["vpcEndpointType"] == "Gateway"
    assert gateway["routeTableIds"] == [f"{NETWORK}-private-{letter}-id" for letter in "abc"]
    for service in INTERFACE_ENDPOINTS:
        endpoint = endpoints[f"{NETWORK}-endpoint-{service}"].inputs
        assert endpoint["serviceName"].endswith(f".{service}")
        assert endpoint["privateDnsEnabled"]
        assert len(endpoint["subnetIds"]) == zones
        (statement,) = json.loads(endpoint["policy"])["Statement"]
        assert statement["Condition"] == {"StringEquals": {"aws:PrincipalAccount": "123456789012"}}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_security_groups_let_in_the_cluster_and_nothing_wider(environment: str) -> None:
    declarations, _ = foundation(environment)
    groups = declarations.of("ec2/securityGroup:SecurityGroup")
    assert set(groups) == {f"{NETWORK}-endpoints", "platform-database", "platform-queue"}
    for group in groups.values():
        assert "ingress" not in group.inputs
        assert "egress" not in group.inputs
    rules = declarations.of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    assert {
        (
            rule.inputs["securityGroupId"],
            rule.inputs["referencedSecurityGroupId"],
            rule.inputs["fromPort"],
            rule.inputs["toPort"],
        )
        for rule in rules.values()
    } == {
        (f"{NETWORK}-endpoints-id", "sg-cluster", 443, 443),
        ("platform-database-id", "sg-cluster", 5432, 5432),
        ("platform-queue-id", "sg-cluster", 6379, 6379),
    }
    assert not any("cidrIpv4" in rule.inputs for rule in rules.values())
    assert not declarations.of("vpc/securityGroupEgressRule:SecurityGroupEgressRule")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_group_and_the_routes_a_vpc_comes_with_are_empty(environment: str) -> None:
    declarations, _ = foundation(environment)
    group = declarations.one("ec2/defaultSecurityGroup:DefaultSecurityGroup", f"{NETWORK}-default")
    assert group["ingress"] == group["egress"] == []
    table = declarations.one("ec2/defaultRouteTable:DefaultRouteTable", f"{NETWORK}-default")
    assert table["routes"] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_all_traffic_is_logged_encrypted_by_a_role_that_may_write_there_only(
    environment: str,
) -> None:
    declarations, _ = foundation(environment)
    name = f"{NETWORK}-flow-log"
    log = declarations.one("ec2/flowLog:FlowLog", name)
    group_arn = f"arn:aws:test:eu-central-1:123456789012:LogGroup/{name}"
    assert log["trafficType"] == "ALL"
    assert log["logDestination"] == group_arn
    assert "platform-key-logs" in declarations.one("cloudwatch/logGroup:LogGroup", name)["kmsKeyId"]
    (statement,) = json.loads(declarations.one("iam/rolePolicy:RolePolicy", name)["policy"])[
        "Statement"
    ]
    assert statement["Resource"] == [group_arn, f"{group_arn}:*"]
