"""What a Grafana is given, as the engine is told; the same dashboards on every stack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pulumi
import pytest

from dashboards.catalogue import aws_dashboards, dashboards, to_json
from stacks.grafana import external_grafana
from stacks.kubernetes.monitoring import PROMETHEUS_URL, Monitoring, MonitoringArgs
from stacks.settings import (
    BundledGrafanaSettings,
    ExternalGrafanaSettings,
    GrafanaSettings,
    MonitoringSettings,
)
from tests.stacks.aws.mocks import ACCOUNT, REGION, Declarations, Declared, declare
from tests.stacks.inputs import hidden, is_secret, plain
from tests.stacks.test_monitoring import KUBERNETES_VERSION, WEBHOOK, values

TOKEN = "glsa_canary-token"
PASSWORD = "generated-password"
MONITORING = MonitoringSettings.model_validate_json(json.dumps({"webhookUrl": WEBHOOK}))


def external(**changed: Any) -> ExternalGrafanaSettings:
    return ExternalGrafanaSettings.model_validate_json(
        json.dumps(
            {
                "source": "external",
                "url": "https://example.grafana.net",
                "token": TOKEN,
                **changed,
            }
        )
    )


def bundled(**changed: Any) -> BundledGrafanaSettings:
    return BundledGrafanaSettings.model_validate_json(
        json.dumps(
            {
                "source": "bundled",
                "host": "grafana.example.org",
                "certificateArn": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/0a",
                "clientCidrs": ["10.20.0.0/16", "10.99.0.0/24"],
                **changed,
            }
        )
    )


def monitored(grafana: GrafanaSettings | None) -> Declarations:
    def program() -> None:
        Monitoring(
            "monitoring",
            MonitoringArgs(
                stack="prod",
                settings=MONITORING,
                services=("exporter",),
                application_namespace="learning-platform",
                account_id=ACCOUNT,
                region=REGION,
                cluster_name="learning-platform-prod",
                durable=True,
                grafana=grafana,
            ),
        )

    return declare(program)[0]


def local(grafana: ExternalGrafanaSettings, prometheus_url: str | None = None) -> Declarations:
    def program() -> None:
        external_grafana(
            "local-grafana",
            "local",
            grafana,
            MonitoringSettings(),
            aws=False,
            opts=pulumi.ResourceOptions(),
            prometheus_url=prometheus_url,
        )

    return declare(program)[0]


def of_type(declarations: Declarations, suffix: str) -> list[Declared]:
    return [each for each in declarations.resources if each.type.endswith(suffix)]


def one(declarations: Declarations, suffix: str) -> dict[str, Any]:
    (found,) = of_type(declarations, suffix)
    return plain(found.inputs)


def without_names(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in dashboard.items() if key not in ("title", "uid")}
    kept["templating"] = [
        {key: value for key, value in variable.items() if key != "current"}
        for variable in dashboard["templating"]["list"]
        if variable["name"] == "datasource"
    ]
    return kept


def test_without_settings_there_is_no_grafana() -> None:
    declared = monitored(None)
    assert of_type(declared, "pulumi:providers:grafana") == []
    assert values(declared, "kube-prometheus-stack")["grafana"] == {"enabled": False}


@pytest.mark.parametrize("grafana", [external(), bundled()])
def test_every_dashboard_of_the_catalogue_is_there_under_a_name_of_the_stack(
    grafana: GrafanaSettings,
) -> None:
    found = {
        document["uid"]: document
        for each in of_type(monitored(grafana), ":Dashboard")
        for document in [json.loads(plain(each.inputs)["configJson"])]
    }
    wanted = [json.loads(to_json(each)) for each in (*dashboards(), *aws_dashboards())]
    assert set(found) == {f"{each['uid']}-prod" for each in wanted}
    for each in wanted:
        assert without_names(found[f"{each['uid']}-prod"]) == without_names(each)
        assert found[f"{each['uid']}-prod"]["title"] == f"{each['title']} (prod)"


def test_a_local_stack_has_the_dashboards_of_every_stack_and_not_those_of_aws() -> None:
    declared = local(external(url="http://127.0.0.1:3000"), "http://127.0.0.1:9090")
    uids = {
        json.loads(plain(each.inputs)["configJson"])["uid"]
        for each in of_type(declared, ":Dashboard")
    }
    assert uids == {f"{each.uid}-local" for each in dashboards()}
    assert one(declared, ":DataSource")["url"] == "http://127.0.0.1:9090"


def test_dashboards_lie_in_the_folder_of_the_stack_and_open_with_its_prometheus() -> None:
    declared = monitored(bundled())
    folder = one(declared, ":Folder")
    source = one(declared, ":DataSource")
    assert source["type"] == "prometheus"
    assert source["url"] == PROMETHEUS_URL
    assert json.loads(source["jsonDataEncoded"])["timeInterval"] == "5s"
    for each in of_type(declared, ":Dashboard"):
        inputs = plain(each.inputs)
        assert inputs["folder"] == folder["uid"]
        (variable,) = (
            each
            for each in json.loads(inputs["configJson"])["templating"]["list"]
            if each["name"] == "datasource"
        )
        assert variable["current"]["value"] == source["uid"]


def test_an_external_one_gets_a_data_source_only_if_it_is_told_where_prometheus_is() -> None:
    assert of_type(monitored(external()), ":DataSource") == []
    told = monitored(external(prometheusUrl="https://prometheus.example.org"))
    assert one(told, ":DataSource")["url"] == "https://prometheus.example.org/"


def test_the_token_and_the_webhook_are_secret_and_in_no_other_place() -> None:
    declared = monitored(external())
    (provider,) = of_type(declared, "pulumi:providers:grafana")
    assert is_secret(provider.inputs["auth"])
    assert plain(provider.inputs)["auth"] == TOKEN
    assert holders(declared, TOKEN) == {provider.name}
    (contact,) = of_type(declared, ":ContactPoint")
    assert plain(contact.inputs)["webhooks"] == [{"url": WEBHOOK}]
    assert WEBHOOK not in json.dumps(hidden(contact.inputs))
    assert holders(declared, WEBHOOK) == {contact.name, "monitoring-alertmanager-webhook"}


def test_the_administrators_password_of_the_bundled_one_is_secret() -> None:
    declared = monitored(bundled())
    (provider,) = of_type(declared, "pulumi:providers:grafana")
    assert plain(provider.inputs)["auth"] == f"admin:{PASSWORD}"
    assert holders(declared, PASSWORD) == {provider.name, "monitoring-grafana-admin"}
    for each in declared.resources:
        assert PASSWORD not in json.dumps(hidden(each.inputs))


def test_the_policy_of_a_shared_grafana_is_left_alone_unless_it_shall_be_ours() -> None:
    assert of_type(monitored(external()), ":NotificationPolicy") == []
    for grafana in (external(notificationPolicy=True), bundled()):
        declared = monitored(grafana)
        policy = one(declared, ":NotificationPolicy")
        assert policy["contactPoint"] == one(declared, ":ContactPoint")["name"]
        assert policy["groupBies"] == ["alertname", "queue"]


def test_everything_goes_through_the_provider_that_is_declared() -> None:
    declared = monitored(external())
    ours = [each for each in declared.resources if each.type.startswith("grafana:")]
    assert len(ours) == 4
    assert {"monitoring-grafana-provider" in each.provider for each in ours} == {True}


def test_the_bundled_one_is_reached_over_tls_inside_the_network_by_those_named() -> None:
    declared = monitored(bundled())
    ingress = one(declared, ":Ingress")
    kubernetes_validate.validate(ingress, KUBERNETES_VERSION, strict=True)
    annotations = {
        key.rpartition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()
    }
    assert annotations["scheme"] == "internal"
    assert json.loads(annotations["listen-ports"]) == [{"HTTPS": 443}]
    assert annotations["certificate-arn"].startswith("arn:aws:acm:")
    assert annotations["inbound-cidrs"] == "10.20.0.0/16,10.99.0.0/24"
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "grafana.example.org"
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"]["name"] == "kube-prometheus-stack-grafana"
    made = one(declared, ":IngressClass")
    kubernetes_validate.validate(made, KUBERNETES_VERSION, strict=True)
    assert made["spec"]["controller"] == "eks.amazonaws.com/alb"
    assert ingress["spec"]["ingressClassName"] == made["metadata"]["name"]


def test_the_bundled_one_knows_its_own_address_and_takes_its_password_from_a_secret() -> None:
    declared = monitored(bundled())
    chart = values(declared, "kube-prometheus-stack")["grafana"]
    assert chart["grafana.ini"]["server"]["root_url"] == "https://grafana.example.org/"
    (secret,) = (
        plain(each.inputs)
        for each in of_type(declared, ":Secret")
        if each.name == "monitoring-grafana-admin"
    )
    assert chart["admin"]["existingSecret"] == secret["metadata"]["name"]
    assert {chart["admin"]["userKey"], chart["admin"]["passwordKey"]} == set(secret["stringData"])


def test_an_ingress_class_that_is_there_is_used() -> None:
    declared = monitored(bundled(ingressClass="shared"))
    assert of_type(declared, ":IngressClass") == []
    assert one(declared, ":Ingress")["spec"]["ingressClassName"] == "shared"


def test_with_a_zone_the_name_points_at_the_load_balancer() -> None:
    assert of_type(monitored(bundled()), "route53/record:Record") == []
    record = one(monitored(bundled(zoneId="Z0123")), "route53/record:Record")
    assert (record["name"], record["type"]) == ("grafana.example.org", "CNAME")
    assert record["records"] == ["internal-alb.test"]


def holders(declared: Declarations, canary: str) -> set[str]:
    return {each.name for each in declared.resources if canary in json.dumps(plain(each.inputs))}
