from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.kubernetes.environment import (
    NotYetError,
    Object,
    Sources,
    UnsupportedError,
    expand,
    variables_of,
)

POD: Object = {
    "metadata": {
        "name": "pod",
        "namespace": "here",
        "uid": "1",
        "labels": {"app.kubernetes.io/name": "server"},
    },
    "spec": {"nodeName": "node"},
}


def sources(**secrets: dict[str, str]) -> Sources:
    def secret(name: str) -> Object | None:
        data = secrets.get(name)
        if data is None:
            return None
        return {
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        }

    maps = {"settings": {"data": {"LEVEL": "info"}}}
    return Sources(POD, "127.9.9.9", "127.0.0.1", secret, maps.get)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(B)", "$(B)"),
        ("$A $", "$A $"),
        ("$(A", "$(A"),
    ],
)
def test_references_are_expanded_as_the_kubelet_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def test_a_variable_refers_only_to_those_before_it() -> None:
    env = [
        {"name": "LATE", "value": "$(HOST)"},
        {"name": "HOST", "value": "h"},
        {"name": "URL", "value": "http://$(HOST)"},
    ]
    found = variables_of({"env": env}, sources())
    assert found == {"LATE": "$(HOST)", "HOST": "h", "URL": "http://h"}


def test_variables_come_from_the_pod_from_secrets_and_from_config_maps() -> None:
    def of(name: str, **source: Any) -> Object:
        return {"name": name, "valueFrom": source}

    container = {
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "login"}}],
        "env": [
            of("ADDRESS", fieldRef={"fieldPath": "status.podIP"}),
            of("SERVICE", fieldRef={"fieldPath": "metadata.labels['app.kubernetes.io/name']"}),
            of("PASSWORD", secretKeyRef={"name": "login", "key": "password"}),
            of("MAYBE", secretKeyRef={"name": "login", "key": "no", "optional": True}),
            {"name": "LEVEL", "value": "debug"},
        ],
    }
    assert variables_of(container, sources(login={"password": "p"})) == {
        "LEVEL": "debug",
        "password": "p",
        "ADDRESS": "127.9.9.9",
        "SERVICE": "server",
        "PASSWORD": "p",
    }


@pytest.mark.parametrize(
    "container",
    [
        {"envFrom": [{"secretRef": {"name": "no"}}]},
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]},
        {
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}}
            ]
        },
    ],
)
def test_what_is_missing_may_yet_come(container: Object) -> None:
    with pytest.raises(NotYetError):
        variables_of(container, sources())


def test_a_variable_that_we_cannot_tell_is_refused() -> None:
    source = {"resourceFieldRef": {"resource": "limits.cpu"}}
    with pytest.raises(UnsupportedError, match="resourceFieldRef"):
        variables_of({"env": [{"name": "A", "valueFrom": source}]}, sources())
