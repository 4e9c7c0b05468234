"""The stand-in between the real engine and a real API server does what pulumi-kubernetes does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stacks.engine import Engine, operations
from tests.stacks.kubernetes.api import Api, ApiError, Object
from tests.stacks.kubernetes.cluster import Cluster
from tests.stacks.kubernetes.programs import POD, source

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CANARY = "canary-31415926"

SETTINGS = """
settings = k8s.core.v1.ConfigMap(
    "settings", metadata=metadata(), data={"level": "info"}, opts=options()
)
keys = k8s.core.v1.Secret(
    "keys", metadata=metadata("keys"), string_data={"password": "canary-31415926"}, opts=options()
)
pulumi.export("settings", settings.metadata.name)
pulumi.export("keys", keys.data)
"""

DEPLOYMENT = (
    POD
    + """
labels = {"app": "tested"}
deployment = k8s.apps.v1.Deployment(
    "deployment",
    metadata=metadata("deployment"),
    spec={"replicas": 0, "selector": {"matchLabels": labels}, "template": pod(["sleep", "9"])},
    opts=options(),
)
"""
)


def found(api: Api, engine: Engine, api_version: str, kind: str, name: str) -> Object:
    namespace = engine.environment["TEST_NAMESPACE"]
    metadata = {"name": name, "namespace": namespace}
    return api.get({"apiVersion": api_version, "kind": kind, "metadata": metadata})


def patch(api: Api, engine: Engine, change: dict[str, Any]) -> None:
    """Change an object as somebody else does."""
    metadata = {**change["metadata"], "namespace": engine.environment["TEST_NAMESPACE"]}
    api.apply({**change, "metadata": metadata}, "somebody", dry_run=False, force=True)


def scale_by_hand(api: Api, engine: Engine, replicas: int) -> None:
    """Change the Deployment as somebody else."""
    patch(
        api,
        engine,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "deployment"},
            "spec": {"replicas": replicas},
        },
    )


def namespace_is_there(api: Api, engine: Engine) -> bool:
    name = engine.environment["TEST_NAMESPACE"]
    kind = api.kind("v1", "Namespace")
    return name in [each["metadata"]["name"] for each in api.list(kind, "")]


def test_a_stack_is_made_looked_at_again_and_taken_away_and_its_secrets_are_never_shown(
    engine: Engine, api: Api
) -> None:
    encoded = "Y2FuYXJ5LTMxNDE1OTI2"
    engine.lay_out(source(SETTINGS + DEPLOYMENT), {})
    assert set(operations(engine.changes()).values()) == {"create"}
    assert not namespace_is_there(api, engine)
    shown = engine.pulumi("preview", "--diff", "--stack", "test").stdout
    shown += engine.up("--diff").stdout
    assert found(api, engine, "v1", "Secret", "keys")["data"] == {"password": encoded}
    outputs = engine.outputs()
    assert outputs["settings"].startswith("settings-")
    assert outputs["keys"] == {"password": encoded}
    settings = found(api, engine, "v1", "ConfigMap", outputs["settings"])
    assert settings["data"] == {"level": "info"}
    engine.expect_no_changes()
    shown += engine.refresh("--expect-no-changes").stdout
    for text in (CANARY, encoded):
        assert text not in shown
        assert text not in engine.state()
    engine.destroy()
    assert not namespace_is_there(api, engine)


def test_what_somebody_changed_or_deleted_is_found_by_a_refresh_and_mended(
    engine: Engine, api: Api
) -> None:
    engine.lay_out(source(SETTINGS + DEPLOYMENT), {})
    engine.up()
    api.delete(found(api, engine, "v1", "Secret", "keys"))
    scale_by_hand(api, engine, 3)
    engine.expect_no_changes()
    engine.refresh(check=False)
    changes = engine.changes()
    assert operations(changes) == {"deployment Deployment": "update", "keys Secret": "create"}
    assert set(changes["deployment Deployment"]["detailedDiff"]) == {"spec.replicas"}
    engine.up()
    found(api, engine, "v1", "Secret", "keys")
    assert found(api, engine, "apps/v1", "Deployment", "deployment")["spec"]["replicas"] == 0


def test_what_somebody_else_owns_is_a_conflict_unless_the_provider_forces(
    engine: Engine, api: Api
) -> None:
    engine.lay_out(source(DEPLOYMENT, ""), {})
    engine.up()
    scale_by_hand(api, engine, 3)
    engine.rewrite(source(DEPLOYMENT.replace('"replicas": 0', '"replicas": 1'), ""))
    refused = engine.up(check=False)
    assert 'conflict with "somebody"' in refused.stdout


def test_changes_in_place_and_replacements_are_those_of_pulumi_kubernetes(engine: Engine) -> None:
    engine.lay_out(source(SETTINGS + DEPLOYMENT), {})
    engine.up()
    before = engine.outputs()["settings"]
    changed = (
        (SETTINGS + DEPLOYMENT).replace('"info"', '"debug"').replace('["sleep", "9"]', '["x"]')
    )
    engine.rewrite(source(changed))
    assert operations(engine.changes()) == {
        "settings ConfigMap": "replace",
        "deployment Deployment": "update",
    }
    engine.rewrite(source(changed.replace('"app": "tested"', '"app": "other"')))
    changes = engine.changes()
    assert operations(changes)["deployment Deployment"] == "replace"
    replacing = changes["deployment Deployment"]["replaceReasons"]
    assert replacing == ["spec.selector.matchLabels.app"]
    # Its name is fixed, so the old one goes first.
    up = engine.up()
    assert up.stdout.index("deployment deleted") < up.stdout.index("deployment created")
    assert engine.outputs()["settings"] != before
    engine.expect_no_changes()


def test_a_field_that_the_server_does_not_know_fails_the_preview_and_the_update(
    engine: Engine, api: Api
) -> None:
    wrong = DEPLOYMENT.replace('"replicas": 0', '"replicaz": 0')
    engine.lay_out(source(SETTINGS), {})
    engine.up()
    engine.rewrite(source(SETTINGS + wrong))
    for arguments in (("preview", "--stack", "test"), ("up", "--yes", "-f", "-s", "test")):
        refused = engine.pulumi(*arguments, check=False)
        assert refused.returncode
        assert ".spec.replicaz: field not declared in schema" in refused.stdout
    with pytest.raises(ApiError, match="not found"):
        found(api, engine, "apps/v1", "Deployment", "deployment")


def test_a_pod_that_the_namespace_forbids_fails_the_update_with_the_reason(
    engine: Engine, cluster: Cluster
) -> None:
    wrong = DEPLOYMENT.replace('"runAsNonRoot": True,', "").replace(
        '"replicas": 0', '"replicas": 1'
    )
    engine.lay_out(source(wrong.replace('"deployment"', '"forbidden"')), {})
    refused = engine.up(check=False)
    assert refused.returncode
    assert 'violates PodSecurity "restricted:latest": runAsNonRoot != true' in refused.stdout
    # It was made, and is there to be mended.
    engine.rewrite(source(DEPLOYMENT.replace('"deployment"', '"forbidden"')))
    assert operations(engine.changes()) == {"forbidden Deployment": "update"}
    engine.up()
    engine.expect_no_changes()


def test_a_custom_resource_is_held_against_its_definition(engine: Engine, api: Api) -> None:
    body = """
k8s.apiextensions.CustomResource(
    "scaled",
    api_version="keda.sh/v1alpha1",
    kind="ScaledObject",
    metadata=metadata("scaled"),
    spec={
        "scaleTargetRef": {"name": "deployment"},
        "maxReplicaCount": 4,
        "triggers": [{"type": "prometheus", "metadata": {"query": "up", "threshold": "1"}}],
    },
    opts=options(),
)
"""
    engine.lay_out(source(body.replace('"maxReplicaCount": 4', '"maxReplicaCount": "four"')), {})
    refused = engine.up(check=False)
    assert refused.returncode
    assert "maxReplicaCount" in refused.stdout
    engine.rewrite(source(body))
    engine.up()
    scaled = found(api, engine, "keda.sh/v1alpha1", "ScaledObject", "scaled")
    assert scaled["spec"]["maxReplicaCount"] == 4
    engine.expect_no_changes()
    engine.refresh("--expect-no-changes")


def test_a_service_waits_for_a_pod_unless_told_otherwise(engine: Engine, cluster: Cluster) -> None:
    body = """
k8s.core.v1.Service(
    "service",
    metadata=metadata("service", timeoutSeconds="1"),
    spec={"selector": {"app": "nobody"}, "ports": [{"port": 80}]},
    opts=options(),
)
"""
    engine.lay_out(source(body), {})
    assert "Service does not target any Pods" in engine.up(check=False).stdout
    engine.rewrite(source(body.replace('timeoutSeconds="1"', 'skipAwait="true"')))
    engine.up()
    engine.expect_no_changes()


def test_an_object_that_exists_is_not_taken_over(engine: Engine, api: Api) -> None:
    engine.lay_out(source(""), {})
    engine.up()
    patch(api, engine, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}})
    body = 'k8s.core.v1.ConfigMap("theirs", metadata=metadata("theirs"), opts=options())'
    engine.rewrite(source(body))
    assert "already exists" in engine.up(check=False).stdout
    read = """
theirs = k8s.core.v1.ConfigMap.get(
    "theirs", namespace.metadata.name.apply(lambda name: f"{name}/theirs"), opts=options()
)
pulumi.export("uid", theirs.metadata.uid)
"""
    engine.rewrite(source(read))
    engine.up()
    theirs = found(api, engine, "v1", "ConfigMap", "theirs")
    assert engine.outputs()["uid"] == theirs["metadata"]["uid"]


def test_a_release_is_kept_with_its_values_and_refused_without_a_version_or_a_namespace(
    engine: Engine, cluster: Cluster
) -> None:
    body = """
k8s.helm.v3.Release(
    "release",
    chart="keda",
    name="keda",
    namespace=namespace.metadata.name,
    repository_opts={"repo": "https://charts.test/keda"},
    version="2.17.0",
    values={"key": pulumi.Output.secret("canary-31415926"), "replicas": 2},
    opts=options(),
)
"""
    engine.lay_out(source(body.replace('"2.17.0"', '"2.x"')), {})
    assert "the chart's version is not pinned" in engine.up(check=False).stdout
    missing = body.replace("namespace=namespace.metadata.name", 'namespace="nowhere"')
    engine.rewrite(source(missing))
    assert 'namespaces "nowhere" not found' in engine.up(check=False).stdout
    engine.rewrite(source(body))
    engine.up()
    release = cluster.releases.live[f"{engine.environment['TEST_NAMESPACE']}/keda"]
    assert release.values == {"key": CANARY, "replicas": 2}
    assert CANARY not in engine.state()
    engine.expect_no_changes()
    engine.refresh("--expect-no-changes")
    engine.rewrite(source(body.replace('"2.17.0"', '"2.17.1"')))
    changes = engine.changes()
    assert operations(changes) == {"release Release": "update"}
    assert set(changes["release Release"]["detailedDiff"]) == {"version"}
    engine.up()
    release = cluster.releases.live[f"{engine.environment['TEST_NAMESPACE']}/keda"]
    assert (release.version, release.revision) == ("2.17.1", 2)
    engine.destroy()
    assert cluster.releases.live == {}


def test_without_its_cluster_a_preview_gives_the_inputs_back_and_an_update_fails(
    engine: Engine, tmp_path: Path
) -> None:
    gone = tmp_path / "kubeconfig.yaml"
    there = Path(engine.environment["TEST_KUBECONFIG"]).read_text()
    gone.write_text(there.replace("https://127.0.0.1:", "https://127.0.0.2:"))
    engine.environment = {**engine.environment, "TEST_KUBECONFIG": str(gone)}
    engine.lay_out(source(SETTINGS), {})
    assert set(operations(engine.changes()).values()) == {"create"}
    failed = engine.up(check=False)
    assert "configured Kubernetes cluster is unreachable" in failed.stdout
