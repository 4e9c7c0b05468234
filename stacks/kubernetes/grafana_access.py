"""The way to the bundled Grafana: over TLS, by a load balancer inside the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_random
from pulumi_aws import route53
from pulumi_kubernetes import core, meta, networking

from stacks.kubernetes.prometheus_values import GRAFANA_SECRET, GRAFANA_SERVICE
from stacks.settings import BundledGrafanaSettings

_USER = "admin"
_CLASS = "internal-alb"
_AUTO_MODE_CONTROLLER = "eks.amazonaws.com/alb"
_TLS = "ELBSecurityPolicy-TLS13-1-2-2021-06"


@dataclass(frozen=True)
class GrafanaLogin:
    """The administrator's password, and the Secret that Grafana has it from."""

    authentication: pulumi.Output[str]
    secret: core.v1.Secret


def grafana_login(
    name: str, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> GrafanaLogin:
    """Declare the administrator's password."""
    password = pulumi_random.RandomPassword(f"{name}-password", length=40, special=False, opts=opts)
    secret = core.v1.Secret(
        f"{name}-admin",
        metadata=meta.v1.ObjectMetaArgs(name=GRAFANA_SECRET, namespace=namespace),
        string_data={"user": _USER, "password": password.result},
        opts=opts,
    )
    return GrafanaLogin(
        pulumi.Output.secret(pulumi.Output.concat(f"{_USER}:", password.result)), secret
    )


def grafana_ingress(
    name: str,
    settings: BundledGrafanaSettings,
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> Sequence[pulumi.Resource]:
    """Declare the load balancer, and the name it is known by; return what to wait for."""
    ingress = networking.v1.Ingress(
        name,
        metadata=meta.v1.ObjectMetaArgs(
            name="grafana", namespace=namespace, annotations=_annotations(settings)
        ),
        spec=networking.v1.IngressSpecArgs(
            ingress_class_name=_ingress_class(name, settings, opts),
            rules=[
                networking.v1.IngressRuleArgs(
                    host=settings.host,
                    http=networking.v1.HTTPIngressRuleValueArgs(
                        paths=[
                            networking.v1.HTTPIngressPathArgs(
                                path="/",
                                path_type="Prefix",
                                backend=networking.v1.IngressBackendArgs(
                                    service=networking.v1.IngressServiceBackendArgs(
                                        name=GRAFANA_SERVICE,
                                        port=networking.v1.ServiceBackendPortArgs(number=80),
                                    )
                                ),
                            )
                        ]
                    ),
                )
            ],
        ),
        opts=opts,
    )
    if settings.zone_id is None:
        return [ingress]
    record = route53.Record(
        name,
        zone_id=settings.zone_id,
        name=settings.host,
        type="CNAME",
        ttl=60,
        records=[ingress.status.load_balancer.ingress[0].hostname],
        opts=opts,
    )
    return [ingress, record]


def _annotations(settings: BundledGrafanaSettings) -> dict[str, str]:
    """https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/ingress/annotations/"""
    values = {
        "scheme": "internal",
        "target-type": "ip",
        "listen-ports": json.dumps([{"HTTPS": 443}]),
        "certificate-arn": settings.certificate_arn,
        "ssl-policy": _TLS,
        "inbound-cidrs": ",".join(str(block) for block in settings.client_cidrs),
        "healthcheck-path": "/api/health",
    }
    return {f"alb.ingress.kubernetes.io/{key}": value for key, value in values.items()}


def _ingress_class(
    name: str, settings: BundledGrafanaSettings, opts: pulumi.ResourceOptions
) -> pulumi.Input[str]:
    """Return the class of the ingress: a given one, else ours for Auto Mode, which has none."""
    if settings.ingress_class is not None:
        return settings.ingress_class
    made = networking.v1.IngressClass(
        name,
        metadata=meta.v1.ObjectMetaArgs(name=_CLASS),
        spec=networking.v1.IngressClassSpecArgs(controller=_AUTO_MODE_CONTROLLER),
        opts=opts,
    )
    return made.metadata.name
