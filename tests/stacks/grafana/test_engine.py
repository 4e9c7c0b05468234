"""What a stack has in a Grafana, by the real engine, with a stand-in for the provider."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dashboards.catalogue import dashboards
from tests.stacks.engine import Engine, operations, ports
from tests.stacks.grafana.provider import (
    CONTACT_POINT,
    DASHBOARD,
    DATA_SOURCE,
    FOLDER,
    POLICY,
    GrafanaBackend,
)
from tests.stacks.stand_in import StandIn, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TOKEN, OTHER_TOKEN = "glsa_canary-token", "glsa_canary-other-token"
WEBHOOK = "https://hooks.example.org/canary-webhook"

PROGRAM = """
import pulumi

from stacks.grafana import external_grafana
from stacks.settings import read_settings

settings = read_settings(pulumi.runtime.get_config_env())
external_grafana(
    "grafana", pulumi.get_stack(), settings.grafana, settings.monitoring, aws=False,
    opts=pulumi.ResourceOptions(), prometheus_url="http://127.0.0.1:9090",
)
"""


def config(token: str = TOKEN, **grafana: Any) -> dict[str, Any]:
    return {
        "learning-platform:monitoring": {"scrapeSeconds": 15, "webhookUrl": WEBHOOK},
        "learning-platform:grafana": {
            "source": "external",
            "url": "https://example.grafana.net",
            "token": token,
            "notificationPolicy": True,
            **grafana,
        },
    }


@contextmanager
def grafana_with(directory: Path, stack: str) -> Iterator[tuple[GrafanaBackend, Engine]]:
    backend = GrafanaBackend()
    with serving(grafana=(StandIn(backend), 1)) as served:
        engine = Engine(directory, stack, ports(served))
        engine.lay_out(PROGRAM, config())
        yield backend, engine


def test_a_stack_gets_its_things_keeps_its_secrets_and_takes_them_away_again(
    tmp_path: Path,
) -> None:
    with grafana_with(tmp_path, "prod") as (backend, engine):
        preview = engine.pulumi("preview", "--diff", "--stack", "prod").stdout
        shown = preview + engine.up().stdout
        assert set(backend.things(FOLDER)) == {"learning-platform-prod"}
        assert set(backend.things(DATA_SOURCE)) == {"learning-platform-prod"}
        assert set(backend.things(DASHBOARD)) == {f"{each.uid}-prod" for each in dashboards()}
        assert len(backend.things(CONTACT_POINT)) == len(backend.things(POLICY)) == 1
        engine.expect_no_changes()

        # Nothing of it to be read in what is shown, nor in the state.
        state = engine.state()
        for canary in (TOKEN, WEBHOOK):
            for text in (canary, base64.b64encode(canary.encode()).decode(), json.dumps(canary)):
                assert text not in shown
                assert text not in state

        # Another token changes how we come in, and nothing that is there; the policy can be given
        # back without the contact point.
        engine.set_config(config(OTHER_TOKEN, notificationPolicy=False))
        assert operations(engine.changes()) == {
            "grafana-provider grafana": "update",
            "grafana-policy NotificationPolicy": "delete",
        }
        engine.up()
        assert OTHER_TOKEN not in engine.state()
        assert len(backend.things(CONTACT_POINT)) == 1
        engine.destroy()
        assert not any(map(backend.things, (FOLDER, DATA_SOURCE, DASHBOARD, CONTACT_POINT)))
