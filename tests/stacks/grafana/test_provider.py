"""The stand-in for Grafana refuses what Grafana would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.stacks.grafana.provider import (
    CONTACT_POINT,
    DASHBOARD,
    DATA_SOURCE,
    FOLDER,
    POLICY,
    GrafanaBackend,
)

SOURCE = {"type": "prometheus", "uid": "metrics", "name": "Prometheus", "url": "http://p.test"}
MODEL = {"uid": "queues", "title": "Queues", "panels": [{"datasource": {"uid": "metrics"}}]}


@pytest.fixture
def grafana() -> GrafanaBackend:
    backend = GrafanaBackend()
    backend.configure({"url": "https://grafana.test", "auth": "token"})
    return backend


def make(grafana: GrafanaBackend, type_: str, **inputs: Any) -> tuple[str, dict[str, Any]]:
    return grafana.create(type_, grafana.check(type_, "name", {}, inputs, "0a1b2c3"))


def test_a_dashboard_lies_in_its_folder_and_asks_its_data_source(grafana: GrafanaBackend) -> None:
    folder = make(grafana, FOLDER, title="Platform", uid="platform")[0]
    make(grafana, DATA_SOURCE, **SOURCE)
    id_, made = make(grafana, DASHBOARD, folder=folder, configJson=json.dumps(MODEL))
    assert id_ == "1:queues"
    assert made["url"] == "https://grafana.test/d/queues"
    assert set(grafana.things(DASHBOARD)) == {"queues"}


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"configJson": "{"}, "configJson is no JSON"),
        ({"configJson": '{"uid": "a"}'}, "needs a title"),
        ({"configJson": json.dumps({**MODEL, "uid": "a b"})}, "is no uid"),
        ({"configJson": json.dumps(MODEL)}, r"no data source \['metrics'\]"),
        ({"configJson": json.dumps({**MODEL, "panels": []}), "folder": "no"}, "no folder no"),
        ({"configJson": "{}", "colour": "red"}, "has no property colour"),
        ({"folder": "general"}, "needs configJson"),
    ],
)
def test_a_dashboard_that_grafana_would_not_take_is_refused(
    grafana: GrafanaBackend, inputs: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        make(grafana, DASHBOARD, **inputs)


def test_a_variable_stands_for_any_data_source(grafana: GrafanaBackend) -> None:
    panels = [{"targets": [{"datasource": {"uid": "${source}"}}]}]
    make(grafana, DASHBOARD, configJson=json.dumps({**MODEL, "panels": panels}))


def test_a_name_or_uid_is_not_given_twice(grafana: GrafanaBackend) -> None:
    make(grafana, DATA_SOURCE, **SOURCE)
    with pytest.raises(ValueError, match="same name"):
        make(grafana, DATA_SOURCE, **{**SOURCE, "uid": "other"})
    make(grafana, FOLDER, title="One", uid="one")
    with pytest.raises(ValueError, match="409"):
        make(grafana, FOLDER, title="Two", uid="one")


def test_properties_are_checked_at_any_depth(grafana: GrafanaBackend) -> None:
    with pytest.raises(ValueError, match="webhooks has no property uri"):
        make(grafana, CONTACT_POINT, name="team", webhooks=[{"uri": "https://hook.test"}])
    with pytest.raises(ValueError, match="reaches nobody"):
        make(grafana, CONTACT_POINT, name="team")


def test_a_policy_needs_its_contact_points_and_keeps_them(grafana: GrafanaBackend) -> None:
    policy = {"contactPoint": "team", "groupBies": ["alertname"]}
    with pytest.raises(ValueError, match="receiver 'team' does not exist"):
        make(grafana, POLICY, **policy)
    id_ = make(grafana, CONTACT_POINT, name="team", webhooks=[{"url": "https://hook.test"}])[0]
    make(grafana, POLICY, **policy)
    with pytest.raises(ValueError, match="in use"):
        grafana.delete(CONTACT_POINT, id_, {})
    with pytest.raises(ValueError, match="receiver 'night' does not exist"):
        grafana.update(
            POLICY, "1:policy", policy, {**policy, "policies": [{"contactPoint": "night"}]}
        )


def test_a_folder_that_others_use_is_not_deleted(grafana: GrafanaBackend) -> None:
    make(grafana, FOLDER, title="Platform", uid="platform", preventDestroyIfNotEmpty=True)
    model = json.dumps({**MODEL, "panels": []})
    make(grafana, DASHBOARD, folder="platform", configJson=model)
    with pytest.raises(ValueError, match="not empty"):
        grafana.delete(FOLDER, "1:platform", {"preventDestroyIfNotEmpty": True})


@pytest.mark.parametrize(
    "inputs", [{"url": "grafana.test", "auth": "a"}, {"url": "https://g.test"}]
)
def test_a_provider_without_a_url_or_credentials_is_refused(inputs: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="Grafana provider"):
        GrafanaBackend().configure(inputs)
