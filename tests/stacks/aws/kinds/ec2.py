# ruff: noqa: ARG002, the signatures are given
"""The network."""

from __future__ import annotations

from typing import Any, ClassVar

import boto3

from tests.stacks.aws.kinds.cloud import ACCOUNT, Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, Mapped, request
from tests.stacks.stand_in import GoneError


def _tagged(cloud: Cloud, inputs: Inputs, kind: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": cloud.tag_list(inputs)}]


def _arn(cloud: Cloud, kind: str, id_: str) -> str:
    return f"arn:aws:ec2:{cloud.region}:{ACCOUNT}:{kind}/{id_}"


class _Ec2(Kind):
    """Changes of tags are the same for all."""

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        client = cloud.client("ec2")
        dropped = set(cloud.tags(old)) - set(cloud.tags(new))
        if dropped:
            client.delete_tags(Resources=[id_], Tags=[{"Key": key} for key in sorted(dropped)])
        client.create_tags(Resources=[id_], Tags=cloud.tag_list(new))
        return {}


class Vpc(_Ec2):
    updatable = frozenset({"enableDnsHostnames", "enableDnsSupport"})
    local = updatable

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        client = cloud.client("ec2")
        params = request(inputs, {"cidrBlock": "CidrBlock"}, self.local)
        made = client.create_vpc(**params, TagSpecifications=_tagged(cloud, inputs, "vpc"))["Vpc"]
        id_ = made["VpcId"]
        self._set(cloud, id_, inputs)
        tables = client.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [id_]}])
        return id_, {
            "arn": _arn(cloud, "vpc", id_),
            "defaultRouteTableId": tables["RouteTables"][0]["RouteTableId"],
        }

    def _set(self, cloud: Cloud, id_: str, inputs: Inputs) -> None:
        client = cloud.client("ec2")
        for name in ("enableDnsSupport", "enableDnsHostnames"):
            if name in inputs:
                attribute = f"E{name[1:]}"
                client.modify_vpc_attribute(VpcId=id_, **{attribute: {"Value": inputs[name]}})

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        client = cloud.client("ec2")
        client.describe_vpcs(VpcIds=[id_])
        found = client.describe_vpc_attribute(VpcId=id_, Attribute="enableDnsHostnames")
        return {"enableDnsHostnames": found["EnableDnsHostnames"]["Value"]}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        self._set(cloud, id_, new)
        return super().update(cloud, id_, old, new)

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        client = cloud.client("ec2")
        of_vpc = [{"Name": "vpc-id", "Values": [id_]}]
        attached = [{"Name": "attachment.vpc-id", "Values": [id_]}]
        groups = client.describe_security_groups(Filters=of_vpc)["SecurityGroups"]
        # Moto lets a VPC go with what is in it.
        left = [
            *client.describe_subnets(Filters=of_vpc)["Subnets"],
            *client.describe_internet_gateways(Filters=attached)["InternetGateways"],
            *(group for group in groups if group["GroupName"] != "default"),
        ]
        if left:
            raise ValueError(f"the VPC {id_} has dependencies and cannot be deleted: {left}")
        client.delete_vpc(VpcId=id_)


class Subnet(_Ec2):
    updatable = frozenset({"mapPublicIpOnLaunch"})
    local = updatable

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {"vpcId": "VpcId", "availabilityZone": "AvailabilityZone", "cidrBlock": "CidrBlock"},
            self.local,
        )
        client = cloud.client("ec2")
        tags = _tagged(cloud, inputs, "subnet")
        id_ = client.create_subnet(**params, TagSpecifications=tags)["Subnet"]["SubnetId"]
        self._set(cloud, id_, inputs)
        return id_, {"arn": _arn(cloud, "subnet", id_)}

    def _set(self, cloud: Cloud, id_: str, inputs: Inputs) -> None:
        public = {"Value": inputs.get("mapPublicIpOnLaunch", False)}
        cloud.client("ec2").modify_subnet_attribute(SubnetId=id_, MapPublicIpOnLaunch=public)

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        (found,) = cloud.client("ec2").describe_subnets(SubnetIds=[id_])["Subnets"]
        return {"mapPublicIpOnLaunch": found["MapPublicIpOnLaunch"]}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        self._set(cloud, id_, new)
        return super().update(cloud, id_, old, new)

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").delete_subnet(SubnetId=id_)


class InternetGateway(_Ec2):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        request(inputs, {"vpcId": "VpcId"}, self.local)
        client = cloud.client("ec2")
        made = client.create_internet_gateway(
            TagSpecifications=_tagged(cloud, inputs, "internet-gateway")
        )
        id_ = made["InternetGateway"]["InternetGatewayId"]
        client.attach_internet_gateway(InternetGatewayId=id_, VpcId=inputs["vpcId"])
        return id_, {"arn": _arn(cloud, "internet-gateway", id_)}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("ec2").describe_internet_gateways(InternetGatewayIds=[id_])
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        client = cloud.client("ec2")
        client.detach_internet_gateway(InternetGatewayId=id_, VpcId=state["vpcId"])
        client.delete_internet_gateway(InternetGatewayId=id_)


class Eip(_Ec2):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(inputs, {"domain": "Domain"}, self.local)
        made = cloud.client("ec2").allocate_address(
            **params, TagSpecifications=_tagged(cloud, inputs, "elastic-ip")
        )
        return made["AllocationId"], {
            "allocationId": made["AllocationId"],
            "publicIp": made["PublicIp"],
        }

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("ec2").describe_addresses(AllocationIds=[id_])
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").release_address(AllocationId=id_)


class NatGateway(_Ec2):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs, {"allocationId": "AllocationId", "subnetId": "SubnetId"}, self.local
        )
        made = cloud.client("ec2").create_nat_gateway(
            **params, TagSpecifications=_tagged(cloud, inputs, "natgateway")
        )
        return made["NatGateway"]["NatGatewayId"], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        found = cloud.client("ec2").describe_nat_gateways(NatGatewayIds=[id_])["NatGateways"]
        if not found or found[0]["State"] in ("deleted", "deleting"):
            raise GoneError
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").delete_nat_gateway(NatGatewayId=id_)


class RouteTable(_Ec2):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(inputs, {"vpcId": "VpcId"}, self.local)
        made = cloud.client("ec2").create_route_table(
            **params, TagSpecifications=_tagged(cloud, inputs, "route-table")
        )
        id_ = made["RouteTable"]["RouteTableId"]
        return id_, {"arn": _arn(cloud, "route-table", id_)}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("ec2").describe_route_tables(RouteTableIds=[id_])
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").delete_route_table(RouteTableId=id_)


class DefaultRouteTable(_Ec2):
    """Adopted as it is and emptied; not taken away with the stack."""

    local = frozenset({"routes"})

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        request(inputs, {"defaultRouteTableId": "RouteTableId"}, self.local)
        id_ = inputs["defaultRouteTableId"]
        client = cloud.client("ec2")
        (table,) = client.describe_route_tables(RouteTableIds=[id_])["RouteTables"]
        for route in table["Routes"]:
            if route.get("GatewayId") != "local":
                client.delete_route(
                    RouteTableId=id_, DestinationCidrBlock=route["DestinationCidrBlock"]
                )
        client.create_tags(Resources=[id_], Tags=cloud.tag_list(inputs))
        return id_, {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        return


class Route(Kind):
    updatable = frozenset({"gatewayId", "natGatewayId"})
    _mapped: ClassVar[Mapped] = {
        "routeTableId": "RouteTableId",
        "destinationCidrBlock": "DestinationCidrBlock",
        "gatewayId": "GatewayId",
        "natGatewayId": "NatGatewayId",
    }

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        cloud.client("ec2").create_route(**request(inputs, self._mapped, self.local))
        return f"r-{inputs['routeTableId']}-{inputs['destinationCidrBlock']}", {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        (table,) = cloud.client("ec2").describe_route_tables(RouteTableIds=[state["routeTableId"]])[
            "RouteTables"
        ]
        for route in table["Routes"]:
            if route.get("DestinationCidrBlock") == state["destinationCidrBlock"]:
                return {
                    name: route[key]
                    for name, key in (("gatewayId", "GatewayId"), ("natGatewayId", "NatGatewayId"))
                    if route.get(key)
                }
        raise GoneError

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        cloud.client("ec2").replace_route(**request(new, self._mapped, self.local))
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").delete_route(
            RouteTableId=state["routeTableId"], DestinationCidrBlock=state["destinationCidrBlock"]
        )


class RouteTableAssociation(Kind):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs, {"routeTableId": "RouteTableId", "subnetId": "SubnetId"}, self.local
        )
        return cloud.client("ec2").associate_route_table(**params)["AssociationId"], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        (table,) = cloud.client("ec2").describe_route_tables(RouteTableIds=[state["routeTableId"]])[
            "RouteTables"
        ]
        known = [each["RouteTableAssociationId"] for each in table["Associations"]]
        if id_ not in known:
            raise GoneError
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").disassociate_route_table(AssociationId=id_)


class VpcEndpoint(_Ec2):
    updatable = frozenset({"policy", "subnetIds", "securityGroupIds", "routeTableIds"})

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {
                "vpcId": "VpcId",
                "serviceName": "ServiceName",
                "vpcEndpointType": "VpcEndpointType",
                "routeTableIds": "RouteTableIds",
                "subnetIds": "SubnetIds",
                "securityGroupIds": "SecurityGroupIds",
                "privateDnsEnabled": "PrivateDnsEnabled",
                "policy": "PolicyDocument",
            },
            self.local,
        )
        client = cloud.client("ec2")
        # Moto takes a subnet or a group that is not there for an endpoint.
        if inputs.get("subnetIds"):
            client.describe_subnets(SubnetIds=inputs["subnetIds"])
        if inputs.get("securityGroupIds"):
            client.describe_security_groups(GroupIds=inputs["securityGroupIds"])
        prefix = f"com.amazonaws.{cloud.region}."
        service = inputs["serviceName"].removeprefix(prefix).split(".")[0]
        if service not in boto3.Session().get_available_services():
            raise ValueError(f"there is no service {inputs['serviceName']}")
        made = client.create_vpc_endpoint(
            **params, TagSpecifications=_tagged(cloud, inputs, "vpc-endpoint")
        )
        return made["VpcEndpoint"]["VpcEndpointId"], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[id_])
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[id_])


class FlowLog(_Ec2):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {
                "vpcId": lambda value: {"ResourceIds": [value], "ResourceType": "VPC"},
                "trafficType": "TrafficType",
                "logDestinationType": "LogDestinationType",
                "logDestination": "LogDestination",
                "iamRoleArn": "DeliverLogsPermissionArn",
                "maxAggregationInterval": "MaxAggregationInterval",
            },
            self.local,
        )
        made = cloud.client("ec2").create_flow_logs(
            **params, TagSpecifications=_tagged(cloud, inputs, "vpc-flow-log")
        )
        if made["Unsuccessful"]:
            raise ValueError(made["Unsuccessful"][0]["Error"]["Message"])
        return made["FlowLogIds"][0], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        if not cloud.client("ec2").describe_flow_logs(FlowLogIds=[id_])["FlowLogs"]:
            raise GoneError
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").delete_flow_logs(FlowLogIds=[id_])


class SecurityGroup(_Ec2):
    """Made without the rule that lets everything out, which EC2 adds, as the provider does."""

    autonamed = "name"

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {"name": "GroupName", "description": "Description", "vpcId": "VpcId"},
            self.local,
        )
        client = cloud.client("ec2")
        id_ = client.create_security_group(
            **params, TagSpecifications=_tagged(cloud, inputs, "security-group")
        )["GroupId"]
        (group,) = client.describe_security_groups(GroupIds=[id_])["SecurityGroups"]
        client.revoke_security_group_egress(GroupId=id_, IpPermissions=group["IpPermissionsEgress"])
        return id_, {"arn": _arn(cloud, "security-group", id_)}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("ec2").describe_security_groups(GroupIds=[id_])
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").delete_security_group(GroupId=id_)


class DefaultSecurityGroup(_Ec2):
    """Adopted and emptied; goes with its VPC."""

    local = frozenset({"ingress", "egress"})

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        request(inputs, {"vpcId": "VpcId"}, self.local)
        client = cloud.client("ec2")
        (group,) = client.describe_security_groups(
            Filters=[
                {"Name": "vpc-id", "Values": [inputs["vpcId"]]},
                {"Name": "group-name", "Values": ["default"]},
            ]
        )["SecurityGroups"]
        id_ = group["GroupId"]
        for rules, revoke in (
            (group["IpPermissions"], client.revoke_security_group_ingress),
            (group["IpPermissionsEgress"], client.revoke_security_group_egress),
        ):
            if rules:
                revoke(GroupId=id_, IpPermissions=rules)
        return id_, {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        return


class SecurityGroupIngressRule(_Ec2):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        request(
            inputs,
            dict.fromkeys(
                (
                    "securityGroupId",
                    "referencedSecurityGroupId",
                    "ipProtocol",
                    "fromPort",
                    "toPort",
                    "description",
                ),
                "",
            ),
            self.local,
        )
        client = cloud.client("ec2")
        client.describe_security_groups(GroupIds=[inputs["referencedSecurityGroupId"]])
        made = client.authorize_security_group_ingress(
            GroupId=inputs["securityGroupId"],
            IpPermissions=[
                {
                    "IpProtocol": inputs["ipProtocol"],
                    "FromPort": inputs["fromPort"],
                    "ToPort": inputs["toPort"],
                    "UserIdGroupPairs": [
                        {
                            "GroupId": inputs["referencedSecurityGroupId"],
                            "Description": inputs["description"],
                        }
                    ],
                }
            ],
        )
        id_ = made["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return id_, {"securityGroupRuleId": id_}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        found = cloud.client("ec2").describe_security_group_rules(
            Filters=[{"Name": "group-id", "Values": [state["securityGroupId"]]}]
        )["SecurityGroupRules"]
        if id_ not in [rule["SecurityGroupRuleId"] for rule in found]:
            raise GoneError
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ec2").revoke_security_group_ingress(
            GroupId=state["securityGroupId"], SecurityGroupRuleIds=[id_]
        )


KINDS: dict[str, Kind] = {
    "aws:ec2/defaultRouteTable:DefaultRouteTable": DefaultRouteTable(),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": DefaultSecurityGroup(),
    "aws:ec2/eip:Eip": Eip(),
    "aws:ec2/flowLog:FlowLog": FlowLog(),
    "aws:ec2/internetGateway:InternetGateway": InternetGateway(),
    "aws:ec2/natGateway:NatGateway": NatGateway(),
    "aws:ec2/route:Route": Route(),
    "aws:ec2/routeTable:RouteTable": RouteTable(),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": RouteTableAssociation(),
    "aws:ec2/securityGroup:SecurityGroup": SecurityGroup(),
    "aws:ec2/subnet:Subnet": Subnet(),
    "aws:ec2/vpc:Vpc": Vpc(),
    "aws:ec2/vpcEndpoint:VpcEndpoint": VpcEndpoint(),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": SecurityGroupIngressRule(),
}
