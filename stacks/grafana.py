"""A stack's folder, dashboards, data source and contact point in a Grafana, by its API."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumiverse_grafana as grafana
from pydantic import SecretStr

from alerts.configuration import duration
from dashboards.catalogue import aws_dashboards, dashboards
from dashboards.provisioning import for_stack
from stacks.settings import ExternalGrafanaSettings, MonitoringSettings

_TIMES_TO_TRY = 10
_SECONDS_BETWEEN = 10


@dataclass(frozen=True)
class GrafanaArgs:
    """Where Grafana is, and what it gets.

    `authentication` is a token of a service account, or `user:password`. `prometheus_url` is where
    this Grafana reaches Prometheus; without it there is no data source of ours. Alerts that are
    made in Grafana go to `webhook_url`, if the `notification_policy`, of which a Grafana has one,
    is ours to set. `aws` adds the dashboards of stacks on AWS.
    """

    stack: str
    url: pulumi.Input[str]
    authentication: pulumi.Input[str]
    prometheus_url: pulumi.Input[str] | None
    scrape_seconds: float
    webhook_url: pulumi.Input[str] | None
    notification_policy: bool
    aws: bool


class Grafana(pulumi.ComponentResource):
    """What a stack has in a Grafana; several stacks may share one."""

    def __init__(
        self, name: str, args: GrafanaArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:index:Grafana", name, None, opts)
        provider = grafana.Provider(
            f"{name}-provider",
            url=args.url,
            auth=pulumi.Output.secret(args.authentication),
            # One that has just been started, or whose name is not known everywhere yet.
            retries=_TIMES_TO_TRY,
            retry_wait=_SECONDS_BETWEEN,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._name = name
        self._args = args
        self._identity = f"learning-platform-{args.stack}"
        self._children = pulumi.ResourceOptions(parent=self, provider=provider)
        self._declare_dashboards(self._declare_data_source())
        self._declare_contact_point()
        self.register_outputs({})

    def _declare_data_source(self) -> tuple[str, str] | None:
        """Return the name and the uid of the stack's Prometheus, if Grafana gets it from us."""
        args = self._args
        if args.prometheus_url is None:
            return None
        title = f"Prometheus (learning platform, {args.stack})"
        grafana.oss.DataSource(
            f"{self._name}-prometheus",
            type="prometheus",
            name=title,
            uid=self._identity,
            url=args.prometheus_url,
            json_data_encoded=json.dumps(
                {
                    "httpMethod": "POST",
                    "prometheusType": "Prometheus",
                    # From this Grafana reckons $__rate_interval.
                    "timeInterval": duration(args.scrape_seconds),
                },
                sort_keys=True,
            ),
            opts=self._children,
        )
        return title, self._identity

    def _declare_dashboards(self, data_source: tuple[str, str] | None) -> None:
        folder = grafana.oss.Folder(
            f"{self._name}-folder",
            title=f"Learning platform ({self._args.stack})",
            uid=self._identity,
            # What others have put there is not ours to delete.
            prevent_destroy_if_not_empty=True,
            opts=self._children,
        )
        for dashboard in [*dashboards(), *(aws_dashboards() if self._args.aws else [])]:
            grafana.oss.Dashboard(
                f"{self._name}-{dashboard.uid}",
                folder=folder.uid,
                config_json=for_stack(dashboard, self._args.stack, data_source),
                message="Made by Pulumi from dashboards/",
                overwrite=True,
                opts=self._children,
            )

    def _declare_contact_point(self) -> None:
        if self._args.webhook_url is None:
            return
        contact = grafana.alerting.ContactPoint(
            f"{self._name}-webhook",
            name=self._identity,
            webhooks=[
                grafana.alerting.ContactPointWebhookArgs(
                    url=pulumi.Output.secret(self._args.webhook_url)
                )
            ],
            opts=self._children,
        )
        if self._args.notification_policy:
            grafana.alerting.NotificationPolicy(
                f"{self._name}-policy",
                contact_point=contact.name,
                # As Alertmanager groups them (alerts/configuration.py).
                group_bies=["alertname", "queue"],
                group_wait="10s",
                group_interval="1m",
                repeat_interval="4h",
                opts=self._children,
            )


def external_grafana(
    name: str,
    stack: str,
    settings: ExternalGrafanaSettings,
    monitoring: MonitoringSettings,
    *,
    aws: bool,
    opts: pulumi.ResourceOptions,
    prometheus_url: pulumi.Input[str] | None = None,
) -> Grafana:
    """Declare what the stack has in a Grafana that is there already.

    `prometheus_url` is what that Grafana asks where the settings say nothing else.
    """
    if settings.prometheus_url is not None:
        prometheus_url = str(settings.prometheus_url)
    return Grafana(
        name,
        GrafanaArgs(
            stack=stack,
            url=str(settings.url),
            authentication=settings.token.get_secret_value(),
            prometheus_url=prometheus_url,
            scrape_seconds=monitoring.scrape_seconds,
            webhook_url=revealed(monitoring.webhook_url),
            notification_policy=settings.notification_policy,
            aws=aws,
        ),
        opts,
    )


def revealed(secret: SecretStr | None) -> pulumi.Output[str] | None:
    """Return a secret of the settings as one of the engine's."""
    return None if secret is None else pulumi.Output.secret(secret.get_secret_value())
