"""The search for secrets finds what is planted, in whatever it is packed; and nothing else."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.canary import Canaries, Finding, all_objects
from tests.kubernetes.control_plane import running_control_plane

# With what is written otherwise in JSON, in URLs and in base64.
PASSWORD = 'p+/w ä"\\' + secrets.token_urlsafe(16)


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/file", data)
    return file.getvalue()


@pytest.fixture
def canaries() -> Canaries:
    return Canaries(password=PASSWORD)


@pytest.mark.parametrize(
    "pack",
    [
        lambda value: value.encode(),
        lambda value: json.dumps({"a": [value]}).encode(),
        lambda value: json.dumps({"a": value}, ensure_ascii=False).encode(),
        lambda value: json.dumps({"a": json.dumps({"b": value})}).encode(),
        lambda value: f"postgresql://role:{quote(value, safe='')}@host/db".encode(),
        lambda value: base64.b64encode(value.encode()),
        lambda value: base64.b64encode(b"x" + value.encode() + b"yz"),
        lambda value: base64.b64encode(b"xy" + value.encode()),
        lambda value: base64.urlsafe_b64encode(b"password=" + value.encode()),
        lambda value: base64.b64encode(pickle.dumps({"props": {"password": value}})),
        lambda value: value.encode().hex().encode(),
        lambda value: value.encode("utf-16-le"),
        lambda value: gzip.compress(value.encode()),
        lambda value: bz2.compress(value.encode()),
        lambda value: lzma.compress(value.encode()),
        lambda value: zipped(value.encode()),
        lambda value: gzip.compress(zipped(json.dumps(value).encode())),
        lambda value: b'{"state": "' + base64.b64encode(gzip.compress(value.encode() * 9)) + b'"}',
    ],
)
def test_a_planted_secret_is_found_however_it_is_written(
    canaries: Canaries, tmp_path: Path, pack: Callable[[str], bytes]
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(pack(PASSWORD))
    (tmp_path / "clean").write_bytes(pack("another secret, which nobody is looking for here"))
    found = canaries.in_tree(tmp_path)
    assert {finding.secret for finding in found} == {"password"}
    assert all(finding.place.startswith("deep/er/file") for finding in found)
    assert PASSWORD not in str(found)
    assert canaries.in_tree(tmp_path, leave_out=[tmp_path / "deep"]) == []


def test_the_names_of_files_are_searched_too(tmp_path: Path) -> None:
    (tmp_path / "for-hunter2hunter2.txt").touch()
    (finding,) = Canaries(token="hunter2hunter2").in_tree(tmp_path)
    assert finding.place.startswith("name of ")


def test_nothing_is_found_in_a_tree_of_ours(canaries: Canaries) -> None:
    assert canaries.in_tree(Path(__file__).with_name("stacks")) == []


def test_what_would_be_found_anywhere_is_no_canary() -> None:
    with pytest.raises(ValueError, match="token has less than 12 bytes"):
        Canaries(token="hunter2")


def test_a_tree_that_is_not_there_is_not_taken_for_a_clean_one(
    canaries: Canaries, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="nothing was searched"):
        canaries.in_tree(tmp_path / "none")


def test_the_arguments_of_processes_are_searched_and_the_environment_of_those_named() -> None:
    token, password = secrets.token_urlsafe(20), secrets.token_urlsafe(20)
    canaries = Canaries(token=token, password=password)
    command = [sys.executable, "-c", "input()", f"--token={token}"]
    environment = {**os.environ, "URL": f"redis://:{password}@host"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
        by_arguments = canaries.in_command_lines()
        by_environment = canaries.in_environment([psutil.Process(process.pid)])
        assert process.stdin
        process.stdin.close()
    assert [(finding.secret, finding.spelling) for finding in by_arguments] == [("token", "plain")]
    assert f"process {process.pid} " in by_arguments[0].place
    (found,) = by_environment
    assert found.place.startswith(f"URL of process {process.pid} ")
    assert canaries.in_command_lines() == []


def test_texts_are_searched_by_name(canaries: Canaries) -> None:
    found = canaries.in_text(preview=f"+ password: {PASSWORD}", up="+ password: [secret]")
    assert found == [Finding("preview", "password", "plain")]


def secret_object() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "queue", "namespace": "default"},
        "stringData": {"url": f"redis://:{PASSWORD}@host"},
    }


@pytest.mark.parametrize(
    "planted",
    [
        {"kind": "ConfigMap", "data": {"url": PASSWORD}},
        {"kind": "Pod", "spec": {"containers": [{"args": ["--password", PASSWORD]}]}},
        {"kind": "Pod", "spec": {"containers": [{"env": [{"name": "P", "value": PASSWORD}]}]}},
        {
            "kind": "Secret",
            "metadata": {"annotations": {"last-applied": json.dumps({"data": PASSWORD})}},
        },
        {
            "kind": "Pod",
            "status": {"containerStatuses": [{"state": {"terminated": {"message": PASSWORD}}}]},
        },
    ],
)
def test_objects_are_searched_except_for_what_secrets_are_for(
    canaries: Canaries, planted: dict[str, object]
) -> None:
    assert canaries.in_objects([secret_object()]) == []
    assert canaries.in_objects([secret_object(), planted])


@pytest.mark.slow
def test_every_object_of_a_cluster_is_searched(canaries: Canaries, tmp_path: Path) -> None:
    from kubernetes import config, dynamic

    with running_control_plane(tmp_path) as plane:
        client = dynamic.DynamicClient(config.new_client_from_config(str(plane.kubeconfig)))
        client.resources.get(api_version="v1", kind="Secret").create(secret_object())
        objects = all_objects(plane.kubeconfig)
        assert ("Secret", "queue") in {(item["kind"], item["metadata"]["name"]) for item in objects}
        assert canaries.in_objects(objects) == []
        job = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "leaky", "namespace": "default"},
            "spec": {
                "schedule": "0 0 1 1 *",
                "jobTemplate": {
                    "spec": {
                        "template": {
                            "spec": {
                                "restartPolicy": "Never",
                                "containers": [
                                    {"name": "it", "image": "it", "args": [f"--url={PASSWORD}"]}
                                ],
                            }
                        }
                    }
                },
            },
        }
        client.resources.get(api_version="batch/v1", kind="CronJob").create(job)
        found = canaries.in_objects(all_objects(plane.kubeconfig))
    assert {finding.place for finding in found} == {"CronJob/default/leaky"}
