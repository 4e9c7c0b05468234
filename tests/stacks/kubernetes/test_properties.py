"""Secrets stay secret on their way through the stand-in."""

from __future__ import annotations

from tests.stacks.kubernetes.properties import (
    Secret,
    decoded,
    encoded,
    holds_secret,
    is_known,
    kept_secret,
    revealed,
)
from tests.stacks.stand_in import UNKNOWN


def test_properties_survive_the_wire() -> None:
    tree = {"a": 1, "b": 1.5, "c": [True, {"d": "e"}], "secret": Secret({"f": [Secret("g")]})}
    assert decoded(encoded({**tree, "nothing": None})) == tree


def test_a_secret_is_found_and_revealed_at_any_depth() -> None:
    tree = {"a": [{"b": Secret("c")}]}
    assert holds_secret(tree)
    assert not holds_secret(revealed(tree))
    assert revealed(tree) == {"a": [{"b": "c"}]}


def test_an_unknown_value_is_found_at_any_depth() -> None:
    assert is_known({"a": [1, Secret("b")]})
    assert not is_known({"a": [Secret(UNKNOWN)]})


def test_what_was_declared_secret_is_kept_secret_key_by_key_and_lists_as_a_whole() -> None:
    live = {"spec": {"a": "1", "b": "2"}, "list": [{"c": "3"}, {"d": "4"}], "status": {}}
    declared = {"spec": {"a": Secret("1"), "b": "2"}, "list": [{"c": Secret("3")}]}
    assert kept_secret(live, declared) == {
        "spec": {"a": Secret("1"), "b": "2"},
        "list": Secret([{"c": "3"}, {"d": "4"}]),
        "status": {},
    }


def test_the_data_of_a_secret_are_always_secret() -> None:
    live = {"kind": "Secret", "data": {"a": "b"}, "type": "Opaque"}
    assert kept_secret(live, {}) == {**live, "data": Secret({"a": "b"})}
