"""Prometheus, Alertmanager, KEDA and what is scraped in the cluster, as the engine is told."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from alerts.check import test_files as unit_test_files
from alerts.configuration import rule_files
from stacks.kubernetes.helm_releases import CLOUDWATCH_EXPORTER, KEDA, KUBE_PROMETHEUS_STACK
from stacks.kubernetes.keda import Keda, KedaArgs
from stacks.kubernetes.monitoring import PROMETHEUS_URL, Monitoring, MonitoringArgs
from stacks.kubernetes.prometheus_values import ALERTMANAGER_SECRET, WEBHOOK_SECRET
from stacks.settings import MonitoringSettings
from tests.conftest import Tools
from tests.stacks.aws.mocks import ACCOUNT, REGION, Declarations, declare
from tests.stacks.custom_resources import problems, schemas
from tests.stacks.inputs import is_secret, plain

SERVICES = ("complexity", "exporter", "fsrs-optimization", "scheduler")
WEBHOOK = "https://hooks.example.org/services/T0/B0/canary-webhook"
HEARTBEAT = "https://switch.example.org/canary-heartbeat"
KUBERNETES_VERSION = "1.35"


def monitored(*, durable: bool = True, **changed: Any) -> Declarations:
    settings = MonitoringSettings.model_validate_json(
        json.dumps({"webhookUrl": WEBHOOK, "heartbeatUrl": HEARTBEAT, **changed})
    )

    def program() -> None:
        Keda("keda", KedaArgs(durable))
        Monitoring(
            "monitoring",
            MonitoringArgs(
                stack="prod" if durable else "staging",
                settings=settings,
                services=SERVICES,
                application_namespace="learning-platform",
                account_id=ACCOUNT,
                region=REGION,
                cluster_name="learning-platform-prod",
                durable=durable,
            ),
        )

    return declare(program)[0]


@pytest.fixture(scope="module")
def prod() -> Declarations:
    return monitored()


def of_kind(declarations: Declarations, kind: str) -> dict[str, dict[str, Any]]:
    """Return the Kubernetes objects of a kind by their own names."""
    return {
        inputs["metadata"]["name"]: inputs
        for inputs in (
            plain(each.inputs)
            for each in declarations.resources
            if each.type.startswith("kubernetes:")
        )
        if inputs.get("kind") == kind
    }


def objects(declarations: Declarations) -> Iterator[dict[str, Any]]:
    for each in declarations.resources:
        if each.type.startswith("kubernetes:") and not each.type.startswith("kubernetes:helm"):
            yield plain(each.inputs)


def releases(declarations: Declarations) -> dict[str, dict[str, Any]]:
    return {
        name: plain(each.inputs)
        for each in declarations.resources
        if each.type == "kubernetes:helm.sh/v3:Release"
        for name in [each.inputs["name"]]
    }


def secret(declarations: Declarations, name: str) -> dict[str, str]:
    return of_kind(declarations, "Secret")[name]["stringData"]


def values(declarations: Declarations, release: str) -> dict[str, Any]:
    return releases(declarations)[release]["values"]


def test_each_chart_has_a_pinned_version_and_is_rolled_back_when_it_fails(
    prod: Declarations,
) -> None:
    found = releases(prod)
    charts = {
        "kube-prometheus-stack": KUBE_PROMETHEUS_STACK,
        "keda": KEDA,
        "cloudwatch-exporter": CLOUDWATCH_EXPORTER,
    }
    assert set(found) == set(charts)
    for name, chart in charts.items():
        release = found[name]
        assert (release["chart"], release["version"]) == (chart.name, chart.version)
        assert release["version"].count(".") == 2
        assert release["repositoryOpts"]["repo"].startswith("https://")
        assert release["atomic"]


def test_only_the_namespace_of_the_node_exporter_lets_privileged_pods_in(
    prod: Declarations,
) -> None:
    enforced = {
        name: each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for name, each in of_kind(prod, "Namespace").items()
    }
    assert enforced == {
        "keda": "restricted",
        "monitoring": "baseline",
        "node-exporter": "privileged",
    }
    exporter = values(prod, "kube-prometheus-stack")["prometheus-node-exporter"]
    assert exporter["namespaceOverride"] == "node-exporter"


def test_every_object_fits_the_schemas_of_kubernetes_and_of_the_operator(
    prod: Declarations,
) -> None:
    checked: set[str] = set()
    for document in objects(prod):
        checked.add(document["kind"])
        if (document["apiVersion"], document["kind"]) in schemas():
            assert list(problems(document)) == []
        else:
            kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
    assert checked == {"Namespace", "PodMonitor", "PrometheusRule", "Secret", "StorageClass"}


def test_a_field_that_is_not_known_is_found_by_these_schemas(prod: Declarations) -> None:
    rule = of_kind(prod, "PrometheusRule")["learning-platform-queues"]
    rule["spec"]["groups"][0]["rules"][0]["expresion"] = "1"
    assert any("expresion" in problem for problem in problems(rule))


def test_the_rules_are_those_of_the_files(prod: Declarations) -> None:
    found = of_kind(prod, "PrometheusRule")
    assert {f"learning-platform-{path.stem}" for path in rule_files()} == set(found)
    for path in rule_files():
        rule = found[f"learning-platform-{path.stem}"]
        assert rule["spec"] == yaml.safe_load(path.read_text())
        assert rule["metadata"]["namespace"] == "monitoring"


def test_promtool_passes_the_rules_that_the_cluster_gets_with_their_unit_tests(
    prod: Declarations, tools: Tools, tmp_path: Path
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    for name, rule in of_kind(prod, "PrometheusRule").items():
        stem = name.removeprefix("learning-platform-")
        (tmp_path / "rules" / f"{stem}.yaml").write_text(yaml.safe_dump(rule["spec"]))
    for path in unit_test_files():
        (tmp_path / "tests" / path.name).write_text(path.read_text())
    rules = sorted(map(str, (tmp_path / "rules").iterdir()))
    checked = run(tools["promtool"], "check", "rules", "--lint=all", *rules)
    assert checked.count("SUCCESS") == len(rule_files())
    tests = sorted(map(str, (tmp_path / "tests").iterdir()))
    assert run(tools["promtool"], "test", "rules", *tests).count("SUCCESS") == len(tests)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=Watchdog"], "heartbeat"),
        (["alertname=QueueGrowing", "queue=complexity"], "webhook"),
        (["alertname=KubePodCrashLooping", "namespace=learning-platform"], "webhook"),
    ],
)
def test_amtool_routes_by_the_configuration_that_the_cluster_gets(
    labels: list[str], receiver: str, prod: Declarations, tools: Tools, tmp_path: Path
) -> None:
    file = tmp_path / "alertmanager.yaml"
    file.write_text(secret(prod, ALERTMANAGER_SECRET)["alertmanager.yaml"])
    run(tools["amtool"], "check-config", str(file))
    routed = run(tools["amtool"], "config", "routes", "test", f"--config.file={file}", *labels)
    assert routed.split() == [receiver]


def test_alertmanager_reads_the_urls_where_the_operator_mounts_their_secret(
    prod: Declarations,
) -> None:
    spec = values(prod, "kube-prometheus-stack")["alertmanager"]["alertmanagerSpec"]
    assert spec["useExistingSecret"]
    assert spec["configSecret"] == ALERTMANAGER_SECRET
    assert spec["secrets"] == [WEBHOOK_SECRET]
    document = yaml.safe_load(secret(prod, ALERTMANAGER_SECRET)["alertmanager.yaml"])
    urls = secret(prod, WEBHOOK_SECRET)
    for receiver, url in (("webhook", WEBHOOK), ("heartbeat", HEARTBEAT)):
        (configuration,) = next(
            each["webhook_configs"] for each in document["receivers"] if each["name"] == receiver
        )
        directory, _, key = configuration["url_file"].rpartition("/")
        assert directory == f"/etc/alertmanager/secrets/{WEBHOOK_SECRET}"
        assert urls[key] == url


def test_a_url_stands_in_its_secret_only_and_is_secret_to_the_engine(prod: Declarations) -> None:
    for canary in (WEBHOOK, HEARTBEAT):
        encoded = base64.b64encode(canary.encode()).decode()
        holders = [
            each
            for each in prod.resources
            if any(text in json.dumps(plain(each.inputs)) for text in (canary, encoded))
        ]
        assert [each.name for each in holders] == [f"monitoring-{WEBHOOK_SECRET}"]
        assert is_secret(holders[0].inputs["stringData"])


def test_without_a_webhook_alerts_are_seen_in_alertmanager_only(
    tools: Tools, tmp_path: Path
) -> None:
    quiet = monitored(durable=False, webhookUrl=None, heartbeatUrl=None)
    text = secret(quiet, ALERTMANAGER_SECRET)["alertmanager.yaml"]
    file = tmp_path / "alertmanager.yaml"
    file.write_text(text)
    run(tools["amtool"], "check-config", str(file))
    assert yaml.safe_load(text)["receivers"] == [{"name": "webhook"}, {"name": "heartbeat"}]
    assert secret(quiet, WEBHOOK_SECRET) == {}


def test_each_service_is_scraped_under_its_name(prod: Declarations) -> None:
    monitors = of_kind(prod, "PodMonitor")
    assert set(monitors) == {*SERVICES, "cloudwatch-exporter"}
    for service in SERVICES:
        monitor = monitors[service]
        assert monitor["metadata"]["namespace"] == "learning-platform"
        spec = monitor["spec"]
        # The operator makes the label `job` of the pod's label.
        assert spec["jobLabel"] == "app.kubernetes.io/name"
        assert spec["selector"] == {"matchLabels": {"app.kubernetes.io/name": service}}
        (endpoint,) = spec["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["interval"]) == ("metrics", "5s")


def test_the_interval_of_the_settings_is_kept() -> None:
    slow = monitored(scrapeSeconds=30, retentionDays=90)
    (endpoint,) = of_kind(slow, "PodMonitor")["exporter"]["spec"]["podMetricsEndpoints"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("30s", "10s")
    spec = values(slow, "kube-prometheus-stack")["prometheus"]["prometheusSpec"]
    assert (spec["evaluationInterval"], spec["retention"]) == ("30s", "90d")


def test_prometheus_selects_what_is_declared_and_in_no_other_namespace(
    prod: Declarations,
) -> None:
    spec = values(prod, "kube-prometheus-stack")["prometheus"]["prometheusSpec"]
    for kind, plural in (("PodMonitor", "podMonitor"), ("PrometheusRule", "rule")):
        wanted = spec[f"{plural}Selector"]["matchLabels"]
        (expression,) = spec[f"{plural}NamespaceSelector"]["matchExpressions"]
        assert expression["key"] == "kubernetes.io/metadata.name"
        for each in of_kind(prod, kind).values():
            assert wanted.items() <= each["metadata"]["labels"].items()
            assert each["metadata"]["namespace"] in expression["values"]
    assert "default" not in expression["values"]


@pytest.mark.parametrize(
    ("part", "kind", "of_the_chart"),
    [
        (
            "prometheus",
            "Prometheus",
            {"storageSpec", "podAntiAffinity", "podAntiAffinityTopologyKey"},
        ),
        (
            "alertmanager",
            "Alertmanager",
            {"useExistingSecret", "podAntiAffinity", "podAntiAffinityTopologyKey"},
        ),
    ],
)
def test_what_the_chart_hands_on_to_the_operator_fits_its_schema(
    part: str, kind: str, of_the_chart: set[str], prod: Declarations
) -> None:
    spec = values(prod, "kube-prometheus-stack")[part][f"{part}Spec"]
    handed_on = {key: value for key, value in spec.items() if key not in of_the_chart}
    if "storageSpec" in spec:
        handed_on["storage"] = spec["storageSpec"]
    document = {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "spec": handed_on}
    assert list(problems(document)) == []


def test_prod_survives_a_zone_and_staging_is_small(prod: Declarations) -> None:
    staging = monitored(durable=False)
    for part in ("prometheus", "alertmanager"):
        large = values(prod, "kube-prometheus-stack")[part][f"{part}Spec"]
        small = values(staging, "kube-prometheus-stack")[part][f"{part}Spec"]
        assert (large["replicas"], small["replicas"]) == (2, 1)
        assert large["podAntiAffinity"] == "hard"
        assert large["podAntiAffinityTopologyKey"] == "topology.kubernetes.io/zone"
    assert values(prod, "keda")["operator"]["replicaCount"] == 2


def test_prometheus_leaves_room_on_its_encrypted_volume(prod: Declarations) -> None:
    spec = values(prod, "kube-prometheus-stack")["prometheus"]["prometheusSpec"]
    claim = spec["storageSpec"]["volumeClaimTemplate"]["spec"]
    storage = int(claim["resources"]["requests"]["storage"].removesuffix("Gi"))
    assert int(spec["retentionSize"].removesuffix("GiB")) <= 0.85 * storage
    made = of_kind(prod, "StorageClass")[claim["storageClassName"]]
    assert made["parameters"]["encrypted"] == "true"


def test_a_storage_class_that_is_there_is_used() -> None:
    declared = monitored(storageClass="fast")
    assert of_kind(declared, "StorageClass") == {}
    spec = values(declared, "kube-prometheus-stack")["alertmanager"]["alertmanagerSpec"]
    assert spec["storage"]["volumeClaimTemplate"]["spec"]["storageClassName"] == "fast"


def test_the_url_of_prometheus_is_that_of_its_service(prod: Declarations) -> None:
    name = values(prod, "kube-prometheus-stack")["fullnameOverride"]
    assert f"http://{name}-prometheus.monitoring.svc:9090" == PROMETHEUS_URL


def test_every_container_of_the_charts_that_we_size_has_requests_and_a_memory_limit(
    prod: Declarations,
) -> None:
    sized = [
        each
        for release in releases(prod)
        for each in resources(values(prod, release))
        if set(each) != {"requests"}  # A volume's claim.
    ]
    assert len(sized) >= 10
    for each in sized:
        assert set(each["requests"]) == {"cpu", "memory"}
        assert set(each["limits"]) == {"memory"}


def resources(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "requests":
                yield value
            yield from resources(inner)


def run(*command: str) -> str:
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout
