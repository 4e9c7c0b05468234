from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.environment import NotYetError, Object, Sources, UnsupportedError
from tests.kubernetes.volumes import SERVICE_ACCOUNT, Paths, make_volumes, mounts_of

SECRETS: dict[str, Object] = {"login": {"data": {"password": "cA==", "user": "dQ=="}}}
MAPS: dict[str, Object] = {"settings": {"data": {"a.ini": "[a]\n"}}}


def make(directory: Path, *volumes: Object) -> dict[str, Path]:
    pod: Object = {
        "metadata": {"name": "pod", "namespace": "here", "uid": "1", "labels": {"a": "b"}},
        "spec": {"volumes": list(volumes)},
    }
    sources = Sources(pod, "127.9.9.9", "127.0.0.1", SECRETS.get, MAPS.get)
    return make_volumes(sources, directory, lambda wanted: f"token for {wanted['audience']}")


def files(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): file.read_text()
        for file in directory.rglob("*")
        if file.is_file()
    }


def test_secrets_and_config_maps_are_files(tmp_path: Path) -> None:
    items = [{"key": "password", "path": "deep/word", "mode": 0o400}]
    made = make(
        tmp_path,
        {"name": "all", "secret": {"secretName": "login"}},
        {"name": "some", "secret": {"secretName": "login", "items": items}},
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "empty", "emptyDir": {}},
    )
    assert files(made["all"]) == {"password": "p", "user": "u"}
    assert files(made["some"]) == {"deep/word": "p"}
    assert (made["some"] / "deep/word").stat().st_mode & 0o777 == 0o400
    assert files(made["settings"]) == {"a.ini": "[a]\n"}
    assert files(made["empty"]) == {}


def test_a_projection_gathers_several_sources(tmp_path: Path) -> None:
    labels = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    sources = [
        {"serviceAccountToken": {"path": "token", "audience": "api"}},
        {"configMap": {"name": "settings"}},
        {"downwardAPI": {"items": [labels]}},
    ]
    made = make(tmp_path, {"name": "all", "projected": {"sources": sources}})
    assert files(made["all"]) == {
        "token": "token for api",
        "a.ini": "[a]\n",
        "labels": 'a="b"',
    }


@pytest.mark.parametrize(
    ("volume", "error"),
    [
        ({"secret": {"secretName": "no"}}, NotYetError),
        ({"configMap": {"name": "settings", "items": [{"key": "x", "path": "x"}]}}, NotYetError),
        ({"hostPath": {"path": "/"}}, UnsupportedError),
        ({"persistentVolumeClaim": {"claimName": "data"}}, UnsupportedError),
    ],
)
def test_a_volume_that_cannot_be_made_is_named(
    tmp_path: Path, volume: Object, error: type[Exception]
) -> None:
    with pytest.raises(error):
        make(tmp_path, {"name": "volume", **volume})


def test_an_optional_volume_may_be_empty(tmp_path: Path) -> None:
    volume: Any = {"name": "maybe", "secret": {"secretName": "no", "optional": True}}
    assert files(make(tmp_path, volume)["maybe"]) == {}


def test_the_paths_of_mounts_are_put_in_where_they_are_named() -> None:
    paths = Paths({"/etc/settings": Path("/pod/settings"), "/etc/settings/ca": Path("/pod/ca")})
    assert paths.put_in("--file=/etc/settings/a.ini") == "--file=/pod/settings/a.ini"
    assert paths.put_in("/etc/settings:/etc/settings/ca/x") == "/pod/settings:/pod/ca/x"
    assert paths.put_in("/etc/settings-old /x/etc/settings") == "/etc/settings-old /x/etc/settings"
    assert paths.used == {"/etc/settings", "/etc/settings/ca"}


def test_a_mount_that_nothing_names_is_refused() -> None:
    paths = Paths({"/data": Path("/pod/data")})
    paths.require_used(["/tmp", SERVICE_ACCOUNT])
    with pytest.raises(UnsupportedError, match="the mount at /data"):
        paths.require_used(["/data"])
    paths.put_in("/data")
    paths.require_used(["/data"])


def test_a_mount_may_be_a_part_of_a_volume() -> None:
    mounts = [{"name": "v", "mountPath": "/data/", "subPath": "a"}]
    assert mounts_of({"volumeMounts": mounts}, {"v": Path("/pod/v")}) == {"/data": Path("/pod/v/a")}
