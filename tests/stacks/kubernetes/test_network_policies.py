"""Network policies: a small model of what they let through, asked of what is declared."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from stacks.kubernetes.network_policies import NetworkPolicyArgs, policies
from stacks.kubernetes.pods import NAME

DATABASE, ENDPOINT, INTERNET, AGENT = "10.0.224.9", "10.0.1.7", "198.51.100.7", "169.254.170.23"
ARGS = NetworkPolicyArgs(
    "apps",
    data_cidrs=["10.0.224.0/21"],
    endpoint_cidrs=["10.0.0.0/18"],
    database_port=5432,
    queue_port=6379,
    queue_clients=["complexity", "exporter"],
    secrets_readers=["roles"],
)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


def port_fits(rule: Mapping[str, Any], port: int, protocol: str) -> bool:
    return any(each["port"] == port and each["protocol"] == protocol for each in rule["ports"])


def goes_out(name: str, address: str, port: int, protocol: str = "TCP") -> bool:
    """Tell whether a pod of the program `name` may open a connection."""
    for policy in policies(ARGS):
        spec = policy["spec"]
        if not selects(spec["podSelector"], {NAME: name}):
            continue
        for rule in spec.get("egress", []):
            blocks = [each["ipBlock"]["cidr"] for each in rule.get("to", [])]
            near = not blocks or any(ip_address(address) in ip_network(each) for each in blocks)
            if near and port_fits(rule, port, protocol):
                return True
    return False


def comes_in(name: str, source: Mapping[str, str], namespace: str, port: int) -> bool:
    for policy in policies(ARGS):
        spec = policy["spec"]
        if not selects(spec["podSelector"], {NAME: name}):
            continue
        for rule in spec.get("ingress", []):
            for peer in rule["from"]:
                inside = {"kubernetes.io/metadata.name": namespace}
                if (
                    selects(peer["namespaceSelector"], inside)
                    and selects(peer["podSelector"], source)
                    and port_fits(rule, port, "TCP")
                ):
                    return True
    return False


def test_every_pod_is_denied_both_ways_to_begin_with() -> None:
    (deny,) = [each for each in policies(ARGS) if each["metadata"]["name"] == "deny"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize(
    ("name", "address", "port", "expected"),
    [
        ("complexity", DATABASE, 5432, True),
        ("complexity", DATABASE, 6379, True),
        ("complexity", DATABASE, 22, False),
        ("complexity", ENDPOINT, 443, False),
        ("complexity", INTERNET, 443, False),
        ("complexity", AGENT, 80, True),
        ("complexity", "169.254.169.254", 80, False),
        ("backfill", DATABASE, 5432, True),
        ("backfill", DATABASE, 6379, False),
        ("backfill", INTERNET, 5432, False),
        ("roles", ENDPOINT, 443, True),
        ("roles", INTERNET, 443, False),
        ("roles", DATABASE, 6379, False),
    ],
)
def test_a_pod_reaches_what_it_needs_and_nothing_else(
    name: str, address: str, port: int, expected: bool
) -> None:
    assert goes_out(name, address, port) is expected


def test_everybody_may_ask_for_names() -> None:
    assert goes_out("complexity", "172.20.0.10", 53, "UDP")
    assert goes_out("sync", "172.20.0.10", 53)


def test_only_prometheus_comes_in_and_only_to_the_metrics() -> None:
    prometheus = {NAME: "prometheus"}
    assert comes_in("exporter", prometheus, "monitoring", 9100)
    assert not comes_in("exporter", prometheus, "monitoring", 22)
    assert not comes_in("exporter", prometheus, "elsewhere", 9100)
    assert not comes_in("exporter", {NAME: "grafana"}, "monitoring", 9100)
