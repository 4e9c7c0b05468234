"""Prometheus and Alertmanager in the cluster, with the rules and the routing of every stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
from pulumi_kubernetes import core, helm, meta, storage

from alerts.configuration import (
    AlertmanagerSettings,
    alertmanager_configuration,
    rule_files,
)
from stacks.grafana import Grafana, GrafanaArgs, external_grafana, revealed
from stacks.kubernetes.cloudwatch import CloudWatch, CloudWatchArgs
from stacks.kubernetes.grafana_access import grafana_ingress, grafana_login
from stacks.kubernetes.helm_releases import KUBE_PROMETHEUS_STACK, release
from stacks.kubernetes.namespaces import MONITORING, namespace
from stacks.kubernetes.prometheus_resources import (
    pod_monitor,
    pod_monitor_spec,
    prometheus_rule,
)
from stacks.kubernetes.prometheus_values import (
    ALERTMANAGER_SECRET,
    LARGE,
    NODE_EXPORTER_NAMESPACE,
    RELEASE,
    SMALL,
    WEBHOOK_SECRET,
    PrometheusValues,
    prometheus_values,
)
from stacks.settings import (
    BundledGrafanaSettings,
    ExternalGrafanaSettings,
    GrafanaSettings,
    MonitoringSettings,
)

PROMETHEUS_URL = f"http://{RELEASE}-prometheus.{MONITORING}.svc:9090"
"""Where Prometheus is inside the cluster: for KEDA, and for a Grafana that runs there."""

_STORAGE_CLASS = "monitoring"
# The operator mounts each Secret that Alertmanager is given here, a file a key.
_SECRETS = Path("/etc/alertmanager/secrets") / WEBHOOK_SECRET
_WEBHOOK, _HEARTBEAT = "webhook.url", "heartbeat.url"


@dataclass(frozen=True)
class MonitoringArgs:
    """What is watched: `services` of ours by name, in `application_namespace`.

    A `durable` one survives the loss of a zone. The provider of the cluster comes by the options,
    and so does that of AWS.
    """

    stack: str
    settings: MonitoringSettings
    services: Sequence[str]
    application_namespace: str
    account_id: str
    region: str
    cluster_name: pulumi.Input[str]
    durable: bool
    protected: bool = False
    """Whether the engine refuses to take it away."""
    grafana: GrafanaSettings | None = None


class Monitoring(pulumi.ComponentResource):
    """kube-prometheus-stack; custom resources of its operator depend on `release`."""

    release: helm.v3.Release

    def __init__(
        self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:kubernetes:Monitoring", name, None, opts)
        self._name = name
        self._args = args
        children = pulumi.ResourceOptions(parent=self)
        self._namespace = namespace(MONITORING, "baseline", children).metadata.name
        nodes = namespace(NODE_EXPORTER_NAMESPACE, "privileged", children)
        secrets = self._declare_secrets()
        bundled = args.grafana if isinstance(args.grafana, BundledGrafanaSettings) else None
        login = grafana_login(f"{name}-grafana", self._namespace, children) if bundled else None
        if login is not None:
            secrets.append(login.secret)
        self.release = release(
            name,
            KUBE_PROMETHEUS_STACK,
            name=RELEASE,
            namespace=self._namespace,
            values=prometheus_values(
                PrometheusValues(
                    stack=args.stack,
                    size=LARGE if args.durable else SMALL,
                    evaluation_seconds=args.settings.scrape_seconds,
                    retention_days=args.settings.retention_days,
                    storage_class=self._storage_class(),
                    namespaces=(
                        MONITORING,
                        NODE_EXPORTER_NAMESPACE,
                        args.application_namespace,
                    ),
                    grafana_host=bundled.host if bundled else None,
                )
            ),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[nodes, *secrets], protect=args.protected
            ),
        )
        after = pulumi.ResourceOptions(parent=self, depends_on=[self.release])
        for path in rule_files():
            prometheus_rule(f"{name}-rules-{path.stem}", path, self._namespace, after)
        for service in args.services:
            pod_monitor(
                f"{name}-{service}",
                service,
                args.application_namespace,
                pod_monitor_spec(service, args.settings.scrape_seconds),
                after,
            )
        CloudWatch(
            f"{name}-cloudwatch",
            CloudWatchArgs(
                stack=args.stack,
                account_id=args.account_id,
                region=args.region,
                cluster_name=args.cluster_name,
                namespace=MONITORING,
                after=[self.release],
            ),
            children,
        )
        if bundled is not None and login is not None:
            self._declare_bundled_grafana(bundled, login.authentication, after)
        elif isinstance(args.grafana, ExternalGrafanaSettings):
            external_grafana(
                f"{name}-grafana",
                args.stack,
                args.grafana,
                args.settings,
                aws=True,
                opts=children,
            )
        self.register_outputs({})

    def _declare_bundled_grafana(
        self,
        settings: BundledGrafanaSettings,
        authentication: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        name = f"{self._name}-grafana"
        reachable = grafana_ingress(name, settings, self._namespace, opts)
        Grafana(
            name,
            GrafanaArgs(
                stack=self._args.stack,
                url=f"https://{settings.host}/",
                authentication=authentication,
                prometheus_url=PROMETHEUS_URL,
                scrape_seconds=self._args.settings.scrape_seconds,
                webhook_url=revealed(self._args.settings.webhook_url),
                notification_policy=True,
                aws=True,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=list(reachable)),
        )

    def _declare_secrets(self) -> list[pulumi.Resource]:
        urls = {
            _WEBHOOK: self._args.settings.webhook_url,
            _HEARTBEAT: self._args.settings.heartbeat_url,
        }
        if urls[_WEBHOOK] is None:
            pulumi.warn("learning-platform:monitoring.webhookUrl is missing: alerts reach nobody")
        files = {key: _SECRETS / key if url else None for key, url in urls.items()}
        configuration = alertmanager_configuration(
            AlertmanagerSettings(files[_WEBHOOK], heartbeat_url_file=files[_HEARTBEAT])
        )
        return [
            self._secret(
                WEBHOOK_SECRET,
                {
                    key: pulumi.Output.secret(url.get_secret_value())
                    for key, url in urls.items()
                    if url is not None
                },
            ),
            self._secret(ALERTMANAGER_SECRET, {"alertmanager.yaml": configuration}),
        ]

    def _secret(self, secret: str, data: Mapping[str, pulumi.Input[str]]) -> core.v1.Secret:
        return core.v1.Secret(
            f"{self._name}-{secret}",
            metadata=meta.v1.ObjectMetaArgs(name=secret, namespace=self._namespace),
            string_data=data,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _storage_class(self) -> str:
        """Return the class of the volumes: a given one, else ours for Auto Mode, which has none."""
        if self._args.settings.storage_class is not None:
            return self._args.settings.storage_class
        storage.v1.StorageClass(
            f"{self._name}-storage",
            metadata=meta.v1.ObjectMetaArgs(name=_STORAGE_CLASS),
            provisioner="ebs.csi.eks.amazonaws.com",
            parameters={"type": "gp3", "encrypted": "true"},
            volume_binding_mode="WaitForFirstConsumer",
            allow_volume_expansion=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return _STORAGE_CLASS
