"""What AWS measures of the database and the queue, brought to Prometheus from CloudWatch.

The exporter finds the instances by the tags that the stack's provider puts on everything, so that a
replica or a node that is added is watched without a change here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import yaml

from stacks.aws.documents import allow, document
from stacks.aws.pod_identity import PodIdentity, PodIdentityArgs
from stacks.kubernetes.helm_releases import CLOUDWATCH_EXPORTER, release
from stacks.kubernetes.pods import RESTRICTED_CONTAINER
from stacks.kubernetes.prometheus_resources import pod_monitor, pod_monitor_spec
from stacks.settings import PROJECT

NAME = "cloudwatch-exporter"
"""The job in Prometheus, the release, and the service account."""

PERIOD_SECONDS = 60
ASK_SECONDS = 300
"""How often CloudWatch is asked; every metric asked for is paid."""

METRICS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "AWS/RDS": {
        "CPUUtilization": ["Average"],
        "DatabaseConnections": ["Maximum"],
        "FreeStorageSpace": ["Minimum"],
        "FreeableMemory": ["Minimum"],
        "DiskQueueDepth": ["Average"],
        "ReadLatency": ["Average"],
        "WriteLatency": ["Average"],
        "ReplicaLag": ["Maximum"],
        "OldestReplicationSlotLag": ["Maximum"],
        "MaximumUsedTransactionIDs": ["Maximum"],
    },
    "AWS/ElastiCache": {
        "EngineCPUUtilization": ["Average"],
        "DatabaseMemoryUsagePercentage": ["Maximum"],
        "Evictions": ["Sum"],
        "CurrConnections": ["Maximum"],
        "ReplicationLag": ["Maximum"],
        "NetworkBandwidthOutAllowanceExceeded": ["Sum"],
    },
}
"""Names of CloudWatch with the statistics asked for. `CPUUtilization` and `Average` of RDS become
`aws_rds_cpuutilization_average` in Prometheus."""

# None of these actions can be narrowed to a resource:
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html
_ACTIONS = ("cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "tag:GetResources")


@dataclass(frozen=True)
class CloudWatchArgs:
    """Whose metrics are asked for, and where the exporter runs; `after` are what it needs."""

    stack: str
    account_id: str
    region: str
    cluster_name: pulumi.Input[str]
    namespace: str
    after: Sequence[pulumi.Resource]


class CloudWatch(pulumi.ComponentResource):
    """The exporter, its role, and that it is scraped."""

    def __init__(
        self, name: str, args: CloudWatchArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:kubernetes:CloudWatch", name, None, opts)
        identity = PodIdentity(
            name,
            PodIdentityArgs(
                account_id=args.account_id,
                cluster=args.cluster_name,
                namespace=args.namespace,
                service_account=NAME,
                policies={"read": read_policy(args.region)},
            ),
            pulumi.ResourceOptions(parent=self),
        )
        exporter = release(
            name,
            CLOUDWATCH_EXPORTER,
            name=NAME,
            namespace=args.namespace,
            values=exporter_values(args.stack, args.region),
            # Pods get the credentials of a role only if it was theirs when they started.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[identity, *args.after]),
        )
        pod_monitor(
            f"{name}-metrics",
            NAME,
            args.namespace,
            pod_monitor_spec(NAME, PERIOD_SECONDS),
            pulumi.ResourceOptions(parent=self, depends_on=[exporter]),
        )
        self.register_outputs({})


def read_policy(region: str) -> str:
    """Return the policy of the exporter's role: to read metrics and tags, in one region."""
    condition = {"StringEquals": {"aws:RequestedRegion": region}}
    return document(allow(_ACTIONS, ["*"], condition))


def exporter_values(stack: str, region: str) -> dict[str, Any]:
    """Return the values of the exporter's chart."""
    return {
        "fullnameOverride": NAME,
        "nameOverride": NAME,
        "serviceAccount": {"name": NAME, "automountServiceAccountToken": False},
        "useStatefulSet": False,
        "portName": "metrics",
        "testConnection": False,
        "extraArgs": {"listen-address": ":5000", "scraping-interval": ASK_SECONDS},
        "podSecurityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65_534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "securityContext": dict(RESTRICTED_CONTAINER),
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "config": exporter_configuration(stack, region),
    }


def exporter_configuration(stack: str, region: str) -> str:
    """Return the exporter's own configuration.

    https://github.com/prometheus-community/yet-another-cloudwatch-exporter/blob/master/docs/configuration.md
    """
    tags = [
        {"key": "project", "value": f"^{PROJECT}$"},
        {"key": "stack", "value": f"^{stack}$"},
    ]
    jobs = [
        {
            "type": kind,
            "regions": [region],
            "searchTags": tags,
            "period": PERIOD_SECONDS,
            # The last value there is within it: CloudWatch has a minute's some minutes later.
            "length": ASK_SECONDS,
            "nilToZero": False,
            "metrics": [
                {"name": metric, "statistics": list(statistics)}
                for metric, statistics in metrics.items()
            ],
        }
        for kind, metrics in METRICS.items()
    ]
    document = {"apiVersion": "v1alpha1", "sts-region": region, "discovery": {"jobs": jobs}}
    return yaml.safe_dump(document, sort_keys=False)


def metric_names() -> list[str]:
    """Return the names that the metrics have in Prometheus."""
    return [
        f"aws_{kind.removeprefix('AWS/').lower()}_{_snake(metric)}_{statistic.lower()}"
        for kind, metrics in METRICS.items()
        for metric, statistics in metrics.items()
        for statistic in statistics
    ]


def _snake(name: str) -> str:
    """Return a name as the exporter writes it: a word begins where lower case ends."""
    text = "".join(
        f"_{letter}" if letter.isupper() and name[index - 1].islower() and index else letter
        for index, letter in enumerate(name)
    )
    return text.lower()
