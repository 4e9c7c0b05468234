"""Monitoring of a local stack as the engine is told of it: a heartbeat, and a Grafana."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pulumi
import yaml
from pulumi.runtime import mocks

from dashboards.catalogue import dashboards
from stacks.local.platform import LocalPlatform, LocalPlatformArgs
from stacks.settings import ExternalGrafanaSettings, LocalSettings, MonitoringSettings
from tests.conftest import ROOT
from tests.stacks.inputs import plain

HEARTBEAT = "https://switch.example.org/canary"


class _Desk(mocks.Mocks):
    """Keeps the inputs of resources by name, and gives the outputs that others take in."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, Any]] = {}
        self.types: dict[str, str] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.name] = plain(args.inputs)
        self.types[args.name] = args.typ
        state: dict[str, Any] = {
            "value": "generated",
            "path": "/data",
            "directory": "/stack",
            "cluster": "/data/cluster",
            "uid": "given",
            "name": args.name,
        }
        if "names" in args.inputs:
            state["ports"] = dict.fromkeys(args.inputs["names"], 20000)
        return args.name, {**args.inputs, **state}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(args.token)

    def of(self, suffix: str) -> dict[str, dict[str, Any]]:
        return {
            name: self.inputs[name] for name, type_ in self.types.items() if type_.endswith(suffix)
        }


def desk(grafana: ExternalGrafanaSettings | None = None, **monitoring: Any) -> _Desk:
    told = _Desk()
    asyncio.set_event_loop(asyncio.new_event_loop())
    mocks.set_mocks(told, project="learning-platform", stack="local")

    def program() -> None:
        platform = LocalPlatform(
            "local",
            LocalPlatformArgs(
                root=ROOT,
                stack="local",
                settings=LocalSettings(),
                monitoring=MonitoringSettings.model_validate_json(json.dumps(monitoring)),
                grafana=grafana,
            ),
        )
        platform.monitoring()

    pulumi.runtime.test(program)()
    return told


def external(url: str) -> ExternalGrafanaSettings:
    return ExternalGrafanaSettings.model_validate_json(
        json.dumps({"source": "external", "url": url, "token": "glsa_token"})
    )


def test_the_watchdog_goes_to_the_switch_that_is_configured_by_a_file() -> None:
    files = desk(heartbeatUrl=HEARTBEAT).inputs["local-alertmanager"]["files"]
    assert files["heartbeat.url"] == HEARTBEAT
    document = yaml.safe_load(files["alertmanager.yml"])
    (switch,) = (each for each in document["receivers"] if each["name"] == "heartbeat")
    assert switch["webhook_configs"][0]["url_file"].endswith("/heartbeat.url")
    assert HEARTBEAT not in files["alertmanager.yml"]


def test_without_a_switch_there_is_no_file_of_it() -> None:
    files = desk().inputs["local-alertmanager"]["files"]
    assert set(files) == {"webhook.url", "alertmanager.yml"}


def test_there_is_no_grafana_but_where_one_is_configured() -> None:
    assert not desk().of(":Dashboard")
    assert set(desk(external("http://127.0.0.1:3000")).of(":Dashboard")) == {
        f"local-grafana-{each.uid}" for each in dashboards()
    }


def test_a_grafana_on_the_same_desk_asks_the_stacks_own_prometheus() -> None:
    (source,) = desk(external("http://127.0.0.1:3000")).of(":DataSource").values()
    assert source["url"] == "http://127.0.0.1:20000"
    assert not desk(external("https://example.grafana.net")).of(":DataSource")
