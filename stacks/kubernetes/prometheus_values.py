"""The values of kube-prometheus-stack.

The chart brings its own rules and targets for Kubernetes itself; ours come beside them as custom
resources with the label `release`, which is what Prometheus selects both by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alerts.configuration import duration

RELEASE = "kube-prometheus-stack"
SELECTED = {"release": RELEASE}
"""The label of every rule and target that this Prometheus takes up."""

ALERTMANAGER_SECRET = "alertmanager-configuration"  # noqa: S105, a name
WEBHOOK_SECRET = "alertmanager-webhook"  # noqa: S105, a name
GRAFANA_SECRET = "grafana-admin"  # noqa: S105, a name
GRAFANA_SERVICE = f"{RELEASE}-grafana"
NODE_EXPORTER_NAMESPACE = "node-exporter"

# EKS runs these itself and shows none of their metrics; DNS and proxy are no pods in Auto Mode.
_OUT_OF_SIGHT = ("kubeControllerManager", "kubeEtcd", "kubeProxy", "kubeScheduler", "coreDns")
_RULES_OUT_OF_SIGHT = (
    "etcd",
    "kubeControllerManager",
    "kubeProxy",
    "kubeSchedulerAlerting",
    "kubeSchedulerRecording",
)


@dataclass(frozen=True)
class Size:
    """What the servers get: memory as Kubernetes writes it, storage in GiB.

    `replicas` of Prometheus scrape the same; Alertmanager, of which there are as many, sends each
    alert once.
    """

    replicas: int
    prometheus_cpu: str
    prometheus_memory: str
    prometheus_memory_limit: str
    prometheus_storage: int
    alertmanager_storage: int = 2


SMALL = Size(1, "200m", "1Gi", "2Gi", 20)
LARGE = Size(2, "500m", "2Gi", "4Gi", 50)


@dataclass(frozen=True)
class PrometheusValues:
    """The plan of Prometheus, Alertmanager and, if it is given a host name, Grafana."""

    stack: str
    size: Size
    evaluation_seconds: float
    retention_days: int
    storage_class: str
    namespaces: Sequence[str]
    grafana_host: str | None


def prometheus_values(plan: PrometheusValues) -> dict[str, Any]:
    """Return the values of the chart; they hold no secret, only names of Secrets."""
    return {
        "fullnameOverride": RELEASE,
        "defaultRules": _default_rules(),
        **{part: {"enabled": False} for part in _OUT_OF_SIGHT},
        "prometheusOperator": {
            "resources": _resources("100m", "128Mi", "256Mi"),
            "prometheusConfigReloader": {"resources": _resources("10m", "32Mi", "64Mi")},
        },
        "prometheus": {"prometheusSpec": _prometheus(plan)},
        "alertmanager": {"alertmanagerSpec": _alertmanager(plan)},
        "grafana": _grafana(plan.grafana_host) if plan.grafana_host else {"enabled": False},
        "kube-state-metrics": {"resources": _resources("50m", "64Mi", "256Mi")},
        # It sees the node's own processes and files, for which a pod must be privileged: in a
        # namespace where nothing else is.
        "prometheus-node-exporter": {
            "namespaceOverride": NODE_EXPORTER_NAMESPACE,
            "resources": _resources("20m", "32Mi", "64Mi"),
        },
    }


def _default_rules() -> dict[str, Any]:
    return {
        # Not `general`: its Watchdog and its TargetDown are in our own rules.
        "rules": dict.fromkeys((*_RULES_OUT_OF_SIGHT, "general"), False),
        # Nobody needs to know: a limit that is reached is a limit that works.
        "disabled": {"CPUThrottlingHigh": True},
    }


def _prometheus(plan: PrometheusValues) -> dict[str, Any]:
    size = plan.size
    kinds = ("podMonitor", "probe", "rule", "scrapeConfig", "serviceMonitor")
    return {
        "replicas": size.replicas,
        "podAntiAffinity": "hard" if size.replicas > 1 else "soft",
        "podAntiAffinityTopologyKey": "topology.kubernetes.io/zone",
        "externalLabels": {"stack": plan.stack},
        "evaluationInterval": duration(plan.evaluation_seconds),
        "retention": f"{plan.retention_days}d",
        # Room for the write-ahead log and a compaction.
        "retentionSize": f"{size.prometheus_storage * 4 // 5}GiB",
        "resources": _resources(
            size.prometheus_cpu, size.prometheus_memory, size.prometheus_memory_limit
        ),
        "storageSpec": _claim(plan.storage_class, size.prometheus_storage),
        **{f"{kind}Selector": {"matchLabels": SELECTED} for kind in kinds},
        **{f"{kind}NamespaceSelector": _in(plan.namespaces) for kind in kinds},
    }


def _alertmanager(plan: PrometheusValues) -> dict[str, Any]:
    size = plan.size
    return {
        "replicas": size.replicas,
        "podAntiAffinity": "hard" if size.replicas > 1 else "soft",
        "podAntiAffinityTopologyKey": "topology.kubernetes.io/zone",
        "useExistingSecret": True,
        "configSecret": ALERTMANAGER_SECRET,
        "secrets": [WEBHOOK_SECRET],
        "retention": "120h",
        "resources": _resources("20m", "64Mi", "128Mi"),
        "storage": _claim(plan.storage_class, size.alertmanager_storage),
    }


def _grafana(host: str) -> dict[str, Any]:
    """Dashboards and data source come through the API (stacks/grafana.py), not by sidecars."""
    off = {"enabled": False}
    return {
        "enabled": True,
        "admin": {
            "existingSecret": GRAFANA_SECRET,
            "userKey": "user",
            "passwordKey": "password",
        },
        "defaultDashboardsEnabled": False,
        "sidecar": {"dashboards": off, "datasources": {**off, "defaultDatasourceEnabled": False}},
        # What it stores comes from the program anyway.
        "persistence": off,
        "initChownData": off,
        "testFramework": off,
        "resources": _resources("50m", "128Mi", "512Mi"),
        "grafana.ini": {
            "analytics": {"check_for_updates": False, "reporting_enabled": False},
            "auth.anonymous": off,
            "server": {"root_url": f"https://{host}/"},
            "security": {"cookie_secure": True, "disable_gravatar": True},
            "users": {"allow_sign_up": False},
        },
    }


def _in(namespaces: Sequence[str]) -> dict[str, Any]:
    return {
        "matchExpressions": [
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "In",
                "values": list(namespaces),
            }
        ]
    }


def _claim(storage_class: str, gibibytes: int) -> dict[str, Any]:
    return {
        "volumeClaimTemplate": {
            "spec": {
                "storageClassName": storage_class,
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": f"{gibibytes}Gi"}},
            }
        }
    }


def _resources(cpu: str, memory: str, limit: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}}
