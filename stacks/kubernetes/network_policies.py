"""Who may talk to whom in the applications' namespace: nobody, but for what is here.

EKS Auto Mode enforces policies once the ConfigMap `amazon-vpc-cni` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from stacks.kubernetes.namespaces import MONITORING, PART_OF
from stacks.kubernetes.pods import METRICS_PORT, NAME

POD_IDENTITY_AGENT = "169.254.170.23/32"
_POD_IDENTITY_PORT = 80
_DNS_PORT = 53
_HTTPS = 443
_NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class NetworkPolicyArgs:
    """Networks are CIDRs: those of the database and the queue, and of endpoints of AWS services.

    `queue_clients` and `secrets_readers` are names of our programs.
    """

    namespace: str
    data_cidrs: Sequence[pulumi.Input[str]]
    endpoint_cidrs: Sequence[pulumi.Input[str]]
    database_port: int
    queue_port: int
    queue_clients: Sequence[str]
    secrets_readers: Sequence[str]


def network_policies(args: NetworkPolicyArgs, opts: pulumi.ResourceOptions) -> list[NetworkPolicy]:
    """Declare the policies of a namespace."""
    return [
        NetworkPolicy(
            f"network-{manifest['metadata']['name']}",
            metadata=manifest["metadata"],
            spec=manifest["spec"],
            opts=opts,
        )
        for manifest in policies(args)
    ]


def enforcement(opts: pulumi.ResourceOptions) -> ConfigMap:
    """Declare that Auto Mode's nodes enforce policies; without it they are but words."""
    return ConfigMap(
        "network-policy-enforcement",
        metadata={"name": "amazon-vpc-cni", "namespace": "kube-system"},
        data={"enable-network-policy-controller": "true"},
        opts=opts,
    )


def policies(args: NetworkPolicyArgs) -> list[dict[str, Any]]:
    """Return the policies: everything is denied, then this and that allowed."""
    everyone: dict[str, Any] = {}
    return [
        _policy(args, "deny", everyone, ["Ingress", "Egress"]),
        _policy(
            args,
            "dns",
            everyone,
            ["Egress"],
            egress=[
                {
                    # Auto Mode answers on the node itself, clusters with CoreDNS in kube-system.
                    "ports": [_port(_DNS_PORT, "UDP"), _port(_DNS_PORT)],
                }
            ],
        ),
        _policy(
            args,
            "metrics",
            everyone,
            ["Ingress"],
            ingress=[
                {
                    "from": [
                        {
                            "namespaceSelector": {"matchLabels": {_NAMESPACE: MONITORING}},
                            "podSelector": {"matchLabels": {NAME: "prometheus"}},
                        }
                    ],
                    "ports": [_port(METRICS_PORT)],
                }
            ],
        ),
        _policy(
            args,
            "database",
            everyone,
            ["Egress"],
            egress=[_to(args.data_cidrs, args.database_port)],
        ),
        _policy(
            args,
            "queue",
            _any_of(args.queue_clients),
            ["Egress"],
            egress=[_to(args.data_cidrs, args.queue_port)],
        ),
        _policy(
            args,
            "pod-identity",
            everyone,
            ["Egress"],
            egress=[_to([POD_IDENTITY_AGENT], _POD_IDENTITY_PORT)],
        ),
        _policy(
            args,
            "secrets",
            _any_of(args.secrets_readers),
            ["Egress"],
            egress=[_to(args.endpoint_cidrs, _HTTPS)],
        ),
    ]


def _any_of(names: Sequence[str]) -> dict[str, Any]:
    return {"matchExpressions": [{"key": NAME, "operator": "In", "values": sorted(names)}]}


def _to(cidrs: Sequence[pulumi.Input[str]], port: int) -> dict[str, Any]:
    return {"to": [{"ipBlock": {"cidr": cidr}} for cidr in cidrs], "ports": [_port(port)]}


def _port(port: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"protocol": protocol, "port": port}


def _policy(
    args: NetworkPolicyArgs,
    name: str,
    selector: Mapping[str, Any],
    types: Sequence[str],
    **rules: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": args.namespace,
            "labels": {"app.kubernetes.io/part-of": PART_OF},
        },
        "spec": {"podSelector": dict(selector), "policyTypes": list(types), **rules},
    }
