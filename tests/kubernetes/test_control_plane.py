from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.kubernetes.certificates import Authority
from tests.kubernetes.control_plane import (
    ControlPlane,
    ControlPlaneError,
    running_control_plane,
)

slow = pytest.mark.slow


def test_a_missing_program_is_named_with_the_way_to_get_it(programs: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ControlPlaneError, match="etcd is missing: run `make test-tools`"),
        running_control_plane(tmp_path / "plane"),
    ):
        pass


def test_a_part_that_ends_is_told_with_its_log_and_nothing_runs_on(
    programs: Path, tmp_path: Path
) -> None:
    for name, script in (
        ("etcd", "#!/bin/sh\nexec /bin/sleep 60\n"),
        ("kube-apiserver", "#!/bin/sh\necho 'unknown flag: --nonsense'\nexit 3\n"),
    ):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    with (
        pytest.raises(ControlPlaneError, match=r"kube-apiserver ended with .* 3:\nunknown flag"),
        running_control_plane(tmp_path / "plane"),
    ):
        pass
    assert not any(process.name() == "sleep" for process in psutil.Process().children())


@slow
def test_it_serves_the_kinds_of_keda_and_of_the_prometheus_operator(
    control_plane: ControlPlane,
) -> None:
    api: Any = client.CustomObjectsApi(control_plane.client())
    for group, version, plural in (
        ("keda.sh", "v1alpha1", "scaledobjects"),
        ("keda.sh", "v1alpha1", "triggerauthentications"),
        ("monitoring.coreos.com", "v1", "podmonitors"),
        ("monitoring.coreos.com", "v1", "prometheusrules"),
        ("monitoring.coreos.com", "v1alpha1", "alertmanagerconfigs"),
    ):
        assert api.list_cluster_custom_object(group, version, plural)["items"] == []


@slow
def test_only_who_has_the_token_comes_in(control_plane: ControlPlane, tmp_path: Path) -> None:
    configuration = client.Configuration()
    configuration.host = control_plane.url
    configuration.ssl_ca_cert = str(control_plane.authority)
    with pytest.raises(ApiException) as refusal:
        client.CoreV1Api(client.ApiClient(configuration)).list_namespace()
    assert refusal.value.status == 401
    other = Authority(tmp_path, "another authority")
    configuration.ssl_ca_cert = str(other.certificate)
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        client.CoreV1Api(client.ApiClient(configuration)).list_namespace()
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(control_plane.url)


def pod(**security: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "registry.example/program@sha256:0",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
            "runAsNonRoot": True,
            **security,
        },
    }
    return {"metadata": {"name": "pod"}, "spec": {"containers": [container]}}


@slow
def test_a_namespace_held_to_the_restricted_standard_refuses_a_pod_of_root(
    control_plane: ControlPlane, namespace: str
) -> None:
    core: Any = client.CoreV1Api(control_plane.client())
    with pytest.raises(ApiException) as refusal:
        core.create_namespaced_pod(namespace, pod(runAsUser=0))
    assert refusal.value.status == 403
    assert "violates PodSecurity" in str(refusal.value.body)
    assert "runAsUser=0" in str(refusal.value.body)
    core.create_namespaced_pod(namespace, pod(), dry_run="All")


@slow
def test_the_controllers_make_the_pods_of_a_job(
    control_plane: ControlPlane, namespace: str
) -> None:
    batch: Any = client.BatchV1Api(control_plane.client())
    spec = {"template": {"spec": {**pod()["spec"], "restartPolicy": "Never"}}}
    batch.create_namespaced_job(namespace, {"metadata": {"name": "job"}, "spec": spec})
    core: Any = client.CoreV1Api(control_plane.client())
    control_plane.wait_until(
        lambda: core.list_namespaced_pod(namespace, label_selector="job-name=job").items,
        "the Job's pod",
    )


@slow
def test_it_ends_without_leaving_a_process(tmp_path: Path) -> None:
    with running_control_plane(tmp_path, definitions=False) as plane:
        started = [psutil.Process(part.process.pid) for part in plane.parts]
        assert [process.name() for process in started] == [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
        ]
    assert not any(process.is_running() for process in started)
    assert not [child for child in psutil.Process().children(recursive=True) if child in started]
