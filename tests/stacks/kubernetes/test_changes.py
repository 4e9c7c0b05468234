"""What counts as a change of an object, and which changes replace it."""

from __future__ import annotations

import pytest

from tests.stacks.kubernetes.changes import (
    Path,
    differences,
    is_custom,
    normalised,
    pruned,
    replaces,
    replacing_paths,
    shown,
)

DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment"}
JOB = {"apiVersion": "batch/v1", "kind": "Job"}
SETTINGS = {"apiVersion": "v1", "kind": "ConfigMap"}
KEYS = {"apiVersion": "v1", "kind": "Secret"}


def test_what_only_the_server_writes_is_no_part_of_the_inputs() -> None:
    live = {"spec": {"replicas": 1, "strategy": {}}, "list": [{"a": 1, "b": 2}], "status": {}}
    shape = {"spec": {"replicas": 3}, "list": [{"a": 0}]}
    assert pruned(live, shape) == {"spec": {"replicas": 1}, "list": [{"a": 1}]}


def test_differences_are_told_by_their_paths() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "gone": "x"}
    new = {"a": {"b": 2, "c": [1, 2, 3]}, "new": True}
    assert differences(old, new, custom=False) == {
        ("a", "b"): "update",
        ("a", "c", 2): "add",
        ("new",): "add",
        ("gone",): "delete",
    }


@pytest.mark.parametrize(("written", "kept"), [("0.5", "500m"), ("1024Mi", "1Gi"), (1, "1")])
def test_an_amount_written_otherwise_is_no_difference(written: object, kept: object) -> None:
    path: Path = ("spec", "resources", "limits", "cpu")
    assert differences(kept, written, custom=False, path=path) == {}
    assert differences(kept, written, custom=False, path=("data", "cpu")) != {}
    assert differences(kept, written, custom=True, path=path) != {}


def test_what_the_server_leaves_away_when_empty_is_a_difference_of_custom_resources_only() -> None:
    assert differences({"a": 1}, {"a": 1, "ingress": [], "b": {}}, custom=False) == {}
    assert differences({"a": 1}, {"a": 1, "ingress": []}, custom=True) == {("ingress",): "add"}


def test_true_is_not_one() -> None:
    assert differences({"a": 1}, {"a": True}, custom=False) == {("a",): "update"}


def test_custom_resources_are_those_of_groups_that_kubernetes_does_not_have() -> None:
    assert is_custom({"apiVersion": "keda.sh/v1alpha1"})
    assert is_custom({"apiVersion": "monitoring.coreos.com/v1"})
    assert not is_custom({"apiVersion": "networking.k8s.io/v1"})
    assert not is_custom({"apiVersion": "v1"})


@pytest.mark.parametrize(
    ("declared", "path", "replaced"),
    [
        (DEPLOYMENT, ("spec", "selector", "matchLabels", "app"), True),
        (DEPLOYMENT, ("spec", "template", "spec"), False),
        (DEPLOYMENT, ("spec",), True),
        (DEPLOYMENT, ("metadata", "name"), True),
        (DEPLOYMENT, ("metadata", "labels", "a"), False),
        (JOB, ("spec", "template", "spec", "containers", 0, "image"), True),
        (JOB, ("spec", "backoffLimit"), False),
        (SETTINGS, ("data", "a"), True),
        (KEYS, ("data", "a"), True),
        (KEYS, ("type",), True),
    ],
)
def test_what_replaces_an_object(declared: dict[str, str], path: Path, replaced: bool) -> None:
    paths = replacing_paths(declared, mutable_secrets=False, mutable_config_maps=False)
    assert replaces(path, paths) is replaced


def test_data_change_in_place_where_the_provider_says_so_unless_the_object_is_immutable() -> None:
    for declared in (SETTINGS, KEYS):
        paths = replacing_paths(declared, mutable_secrets=True, mutable_config_maps=True)
        assert not replaces(("data", "a"), paths)
        frozen = {**declared, "immutable": True}
        paths = replacing_paths(frozen, mutable_secrets=True, mutable_config_maps=True)
        assert replaces(("data", "a"), paths)


def test_the_text_of_a_secret_is_compared_as_the_server_writes_it() -> None:
    declared = {**KEYS, "stringData": {"a": "b"}, "data": {"c": "ZA=="}}
    assert normalised(declared) == {**KEYS, "data": {"a": "Yg==", "c": "ZA=="}}
    assert normalised(SETTINGS) == SETTINGS


def test_a_path_is_shown_as_pulumi_writes_it() -> None:
    path = ("metadata", "annotations", "pulumi.com/skipAwait")
    assert shown(path) == 'metadata.annotations["pulumi.com/skipAwait"]'
    assert shown(("spec", "containers", 0, "image")) == "spec.containers[0].image"
