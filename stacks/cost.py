"""What a stack costs a month, from the inputs of its resources and a table of list prices.

Every type of resource has a price here or is known to have none; a test holds that against what
the whole program declares, and docs/cost.md against what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml

HOURS = 730
"""Hours of a month, as AWS reckons."""

PRICES_ARE = (
    "list prices of eu-central-1 on demand, in USD without tax, as assumed in November 2026"
)

PRICES: Mapping[str, float] = {
    "nat gateway hour": 0.052,
    "nat gateway GB": 0.052,
    "public address hour": 0.005,
    "interface endpoint hour": 0.012,
    "interface endpoint GB": 0.01,
    "between zones GB": 0.02,
    "key month": 1.0,
    "secret month": 0.40,
    "log GB taken in": 0.63,
    "log GB kept": 0.0324,
    "image GB": 0.10,
    "cluster hour": 0.10,
    "db.t4g.large hour": 0.147,
    "db.m7g.large hour": 0.206,
    "db.r7g.large hour": 0.286,
    "db.r7g.xlarge hour": 0.573,
    "database GB": 0.137,
    "backup GB": 0.103,
    "cache.t4g.small hour": 0.0304,
    "cache.m7g.large hour": 0.1512,
    "cache.r7g.large hour": 0.2088,
    "m7i.large hour": 0.1208,
    "m7i.xlarge hour": 0.2415,
    "auto mode share of node": 0.12,
    "volume GB": 0.0952,
    "load balancer hour": 0.027,
    "load balancer unit hour": 0.008,
    "thousand metrics asked for": 0.01,
}
"""By unit. A second zone doubles what a database costs, its storage too."""

CONFIRMED = frozenset({"cluster hour", "auto mode share of node", "thousand metrics asked for"})
"""Found in public pages in November 2026, where they are the same in every region. The others were
not to be had from an official page then: check them."""

FREE: frozenset[str] = frozenset(
    {
        "aws:ec2/defaultRouteTable:DefaultRouteTable",
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "aws:ec2/flowLog:FlowLog",  # paid as the logs it writes
        "aws:ec2/internetGateway:InternetGateway",
        "aws:ec2/route:Route",
        "aws:ec2/routeTable:RouteTable",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/vpc:Vpc",
        "aws:ecr/lifecyclePolicy:LifecyclePolicy",
        "aws:eks/accessEntry:AccessEntry",
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
        "aws:elasticache/parameterGroup:ParameterGroup",
        "aws:elasticache/subnetGroup:SubnetGroup",
        "aws:elasticache/user:User",
        "aws:elasticache/userGroup:UserGroup",
        "aws:iam/role:Role",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        "aws:kms/alias:Alias",
        "aws:rds/parameterGroup:ParameterGroup",
        "aws:rds/snapshotCopy:SnapshotCopy",  # as backups, in use
        "aws:rds/subnetGroup:SubnetGroup",
        "aws:route53/record:Record",
        "aws:secretsmanager/secretVersion:SecretVersion",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    }
)
"""Types that cost nothing by being there."""

IN_CLUSTER: frozenset[str] = frozenset(
    {
        "kubernetes:apps/v1:Deployment",
        "kubernetes:batch/v1:CronJob",
        "kubernetes:batch/v1:Job",
        "kubernetes:core/v1:ConfigMap",
        "kubernetes:core/v1:LimitRange",
        "kubernetes:core/v1:Namespace",
        "kubernetes:core/v1:ResourceQuota",
        "kubernetes:core/v1:Secret",
        "kubernetes:core/v1:ServiceAccount",
        "kubernetes:keda.sh/v1alpha1:ScaledObject",
        "kubernetes:monitoring.coreos.com/v1:PodMonitor",
        "kubernetes:monitoring.coreos.com/v1:PrometheusRule",
        "kubernetes:networking.k8s.io/v1:IngressClass",
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        "kubernetes:policy/v1:PodDisruptionBudget",
        "kubernetes:storage.k8s.io/v1:StorageClass",
    }
)
"""Types that are paid as the nodes they run on, or not at all."""

IN_GRAFANA: frozenset[str] = frozenset(
    {
        "grafana:alerting/contactPoint:ContactPoint",
        "grafana:alerting/notificationPolicy:NotificationPolicy",
        "grafana:oss/dashboard:Dashboard",
        "grafana:oss/dataSource:DataSource",
        "grafana:oss/folder:Folder",
    }
)
"""Types that a Grafana holds; one in the cluster costs nodes, another is on another bill."""

_CHART = "kubernetes:helm.sh/v3:Release"
_INSTANCE = "aws:rds/instance:Instance"
_REPLICATION_GROUP = "aws:elasticache/replicationGroup:ReplicationGroup"
_LOAD = 0.1
"""Of a load balancer that a few people use, in units an hour."""
_SETS_OF_DIMENSIONS = {"AWS/RDS": 1, "AWS/ElastiCache": 2}
"""Under how many names CloudWatch keeps a metric of one instance."""


@dataclass(frozen=True)
class Usage:
    """What of the bill depends on use, a month. Amounts in GB; nodes are those Auto Mode keeps."""

    nodes: int
    node_type: str
    volumes: float
    through_nat: float
    through_endpoints: float
    between_zones: float
    logs: float
    logs_kept: float
    images: float
    backups: float


USAGE: Mapping[str, Usage] = {
    "staging": Usage(
        nodes=2,
        node_type="m7i.large",
        volumes=80,
        through_nat=50,
        through_endpoints=50,
        between_zones=50,
        logs=10,
        logs_kept=10,
        images=5,
        backups=50,
    ),
    "prod": Usage(
        nodes=4,
        node_type="m7i.xlarge",
        volumes=240,
        through_nat=200,
        through_endpoints=300,
        between_zones=500,
        logs=60,
        logs_kept=400,
        images=10,
        backups=600,
    ),
}
"""Assumptions, to be replaced by what the first bills say."""


@dataclass(frozen=True)
class Line:
    """One line of the bill: so many units at a price."""

    what: str
    quantity: float
    unit: str
    price: float

    @property
    def amount(self) -> float:
        return self.quantity * self.price


class NoPriceError(Exception):
    """A type of resource, or a size, of which nothing is known here."""


def _price(unit: str) -> float:
    if unit not in PRICES:
        raise NoPriceError(f"stacks/cost.py has no price of {unit!r}")
    return PRICES[unit]


def _line(what: str, quantity: float, unit: str) -> Line:
    return Line(what, quantity, unit, _price(unit))


def _nat_gateway(_: Mapping[str, Any]) -> list[Line]:
    return [_line("NAT gateways", HOURS, "nat gateway hour")]


def _address(_: Mapping[str, Any]) -> list[Line]:
    return [_line("Public addresses", HOURS, "public address hour")]


def _endpoint(inputs: Mapping[str, Any]) -> list[Line]:
    if inputs["vpcEndpointType"] == "Gateway":
        return []
    hours = HOURS * len(inputs["subnetIds"])
    return [_line("Interface endpoints", hours, "interface endpoint hour")]


def _key(_: Mapping[str, Any]) -> list[Line]:
    return [_line("KMS keys", 1, "key month")]


def _log_group(_: Mapping[str, Any]) -> list[Line]:
    return []  # by what is written: `of_usage`


def _repository(_: Mapping[str, Any]) -> list[Line]:
    return []  # by what is kept: `of_usage`


def _cluster(_: Mapping[str, Any]) -> list[Line]:
    return [_line("EKS control plane", HOURS, "cluster hour")]


def _database(inputs: Mapping[str, Any]) -> list[Line]:
    copies = 2 if inputs["multiAz"] else 1
    replica = "replicateSourceDb" in inputs
    lines = [
        _line(
            "Database replica" if replica else "Database",
            HOURS * copies,
            f"{inputs['instanceClass']} hour",
        )
    ]
    if not replica:
        lines.append(_line("Database storage", inputs["allocatedStorage"] * copies, "database GB"))
    if inputs.get("manageMasterUserPassword"):
        lines.append(_line("Secret of the database", 1, "secret month"))
    return lines


def _secret(_: Mapping[str, Any]) -> list[Line]:
    return [_line("Secret of the database", 1, "secret month")]


def _cache(inputs: Mapping[str, Any]) -> list[Line]:
    nodes = HOURS * inputs["numCacheClusters"]
    return [_line("Queue", nodes, f"{inputs['nodeType']} hour")]


def _chart(inputs: Mapping[str, Any]) -> list[Line]:
    gigabytes = sum(_claims(inputs.get("values") or {}))
    return [_line("Monitoring, volumes", gigabytes, "volume GB")] if gigabytes else []


def _claims(values: Mapping[str, Any]) -> Iterable[float]:
    """Yield the GiB of each volume that a chart's values ask for, of every replica."""
    for value in values.values():
        if not isinstance(value, Mapping):
            continue
        section = cast("Mapping[str, Any]", value)
        claim = section.get("storageSpec") or section.get("storage")
        if claim is None:
            yield from _claims(section)
        else:
            wanted = claim["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"]
            yield float(wanted.removesuffix("Gi")) * section.get("replicas", 1)


def _load_balancer(_: Mapping[str, Any]) -> list[Line]:
    return [
        _line("Load balancers", HOURS, "load balancer hour"),
        _line("Load balancers, load", HOURS * _LOAD, "load balancer unit hour"),
    ]


PRICED: Mapping[str, Callable[[Mapping[str, Any]], list[Line]]] = {
    "aws:cloudwatch/logGroup:LogGroup": _log_group,
    "aws:ec2/eip:Eip": _address,
    "aws:ec2/natGateway:NatGateway": _nat_gateway,
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:ecr/repository:Repository": _repository,
    "aws:eks/cluster:Cluster": _cluster,
    _REPLICATION_GROUP: _cache,
    "aws:kms/key:Key": _key,
    _INSTANCE: _database,
    "aws:secretsmanager/secret:Secret": _secret,
    _CHART: _chart,
    "kubernetes:networking.k8s.io/v1:Ingress": _load_balancer,
}


def of_resource(type_: str, inputs: Mapping[str, Any]) -> list[Line]:
    """Return what a resource costs by being there.

    Raises NoPriceError for a type or a size that is not in the tables.
    """
    if type_ in FREE | IN_CLUSTER | IN_GRAFANA:
        return []
    if type_ not in PRICED:
        raise NoPriceError(f"stacks/cost.py knows no price of {type_}, and not that it is free")
    return PRICED[type_](inputs)


def of_usage(usage: Usage, replica_storage: float = 0) -> list[Line]:
    """Return what use costs; `replica_storage` is as large as the primary's, which inputs omit."""
    node_hours = usage.nodes * HOURS
    node = _price(f"{usage.node_type} hour")
    lines = [
        _line("Nodes", node_hours, f"{usage.node_type} hour"),
        Line(
            "Nodes, Auto Mode",
            node_hours,
            "auto mode hour",
            node * _price("auto mode share of node"),
        ),
        _line("Nodes, volumes", usage.volumes, "volume GB"),
        _line("NAT gateways, data", usage.through_nat, "nat gateway GB"),
        _line("Interface endpoints, data", usage.through_endpoints, "interface endpoint GB"),
        _line("Traffic between zones", usage.between_zones, "between zones GB"),
        _line("Logs, written", usage.logs, "log GB taken in"),
        _line("Logs, kept", usage.logs_kept, "log GB kept"),
        _line("Images", usage.images, "image GB"),
        _line("Backups beyond the free ones", usage.backups, "backup GB"),
    ]
    if replica_storage:
        lines.append(_line("Database replica, storage", replica_storage, "database GB"))
    return lines


def of_metrics(resources: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Line]:
    """Return what asking CloudWatch costs: every metric of every instance, each time."""
    listed = list(resources)
    instances = {
        "AWS/RDS": sum(type_ == _INSTANCE for type_, _ in listed),
        "AWS/ElastiCache": sum(
            inputs["numCacheClusters"] for type_, inputs in listed if type_ == _REPLICATION_GROUP
        ),
    }
    lines: list[Line] = []
    for type_, inputs in listed:
        values: Mapping[str, Any] = (type_ == _CHART and inputs.get("values")) or {}
        if "config" not in values:
            continue
        times = HOURS * 3600 / values["extraArgs"]["scraping-interval"]
        asked = sum(
            len(metric["statistics"]) * instances[job["type"]] * _SETS_OF_DIMENSIONS[job["type"]]
            for job in yaml.safe_load(values["config"])["discovery"]["jobs"]
            for metric in job["metrics"]
        )
        lines.append(
            _line("CloudWatch, metrics", asked * times / 1000, "thousand metrics asked for")
        )
    return lines


def bill(resources: Iterable[tuple[str, Mapping[str, Any]]], usage: Usage) -> list[Line]:
    """Return the bill of a stack: lines of the same kind added up, the dearest first.

    `resources` are the type and the inputs of each resource of AWS, Kubernetes and Grafana.
    """
    listed = list(resources)
    replicas = [inputs for type_, inputs in listed if "replicateSourceDb" in inputs and type_]
    storage = sum(inputs.get("allocatedStorage", 0) for _, inputs in listed)
    lines = [line for type_, inputs in listed for line in of_resource(type_, inputs)]
    lines += of_metrics(listed)
    lines += of_usage(usage, storage * len(replicas))
    merged: dict[tuple[str, str, float], float] = {}
    for line in lines:
        key = (line.what, line.unit, line.price)
        merged[key] = merged.get(key, 0) + line.quantity
    summed = [Line(what, quantity, unit, price) for (what, unit, price), quantity in merged.items()]
    return sorted(summed, key=lambda line: (-line.amount, line.what))


def total(lines: Iterable[Line]) -> float:
    """Return the sum of a bill."""
    return sum(line.amount for line in lines)


def as_markdown(lines: Iterable[Line]) -> str:
    """Return a bill as a table."""
    listed = list(lines)
    rows = [
        f"| {line.what} | {line.quantity:,.0f} | {line.unit} | {line.price:.4f} "
        f"| {line.amount:,.0f} |"
        for line in listed
    ]
    return "\n".join(
        [
            "| what | quantity | unit | USD a unit | USD a month |",
            "|---|---:|---|---:|---:|",
            *rows,
            f"| **total** | | | | **{total(listed):,.0f}** |",
            "",
        ]
    )
