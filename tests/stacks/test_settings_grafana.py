"""The settings of Grafana: which there are, and how what does not fit is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stacks.settings import (
    BundledGrafanaSettings,
    ExternalGrafanaSettings,
    SettingsError,
    read_settings,
)
from tests.stacks.test_settings_aws import configuration

TOKEN = "glsa_canary-token"
EXTERNAL: dict[str, Any] = {
    "source": "external",
    "url": "https://example.grafana.net",
    "token": TOKEN,
}
BUNDLED: dict[str, Any] = {
    "source": "bundled",
    "host": "grafana.example.org",
    "certificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/0a",
    "clientCidrs": ["10.0.0.0/8"],
}


def grafana(base: dict[str, Any], **changed: Any) -> dict[str, str]:
    return {**configuration(), "learning-platform:grafana": json.dumps({**base, **changed})}


def refusal(values: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(values)
    return str(caught.value)


def test_without_the_section_there_is_no_grafana() -> None:
    assert read_settings(configuration()).grafana is None


def test_both_kinds_are_taken() -> None:
    external = read_settings(grafana(EXTERNAL)).grafana
    assert isinstance(external, ExternalGrafanaSettings)
    assert external.token.get_secret_value() == TOKEN
    assert not external.notification_policy
    assert TOKEN not in repr(external)
    bundled = read_settings(grafana(BUNDLED)).grafana
    assert isinstance(bundled, BundledGrafanaSettings)
    assert bundled.host == "grafana.example.org"


@pytest.mark.parametrize(
    ("base", "changed", "told"),
    [
        (EXTERNAL, {"source": "cloud"}, "grafana: "),
        (EXTERNAL, {"url": "http://grafana.example.org"}, "takes an https URL, for a token"),
        (EXTERNAL, {"url": "grafana"}, "learning-platform:grafana.url: got 'grafana'"),
        (EXTERNAL, {"tokn": "x"}, "grafana.tokn: unknown key; known are notificationPolicy"),
        (EXTERNAL, {"prometheusUrl": 5}, "grafana.prometheusUrl: got 5"),
        (BUNDLED, {"host": "grafana"}, "grafana.host: got 'grafana'"),
        (BUNDLED, {"certificateArn": "x"}, "grafana.certificateArn: got 'x'"),
        (BUNDLED, {"clientCidrs": []}, "grafana.clientCidrs: got []"),
        (BUNDLED, {"clientCidrs": ["0.0.0.0/0"]}, "takes networks of /8 or smaller"),
    ],
)
def test_what_does_not_fit_is_refused_naming_the_key(
    base: dict[str, Any], changed: dict[str, Any], told: str
) -> None:
    assert told in refusal(grafana(base, **changed))


def test_a_token_that_does_not_fit_is_not_shown() -> None:
    message = refusal(grafana(EXTERNAL, token={"secret": TOKEN}))
    assert "learning-platform:grafana.token" in message
    assert TOKEN not in message


def test_the_bundled_one_needs_a_cluster() -> None:
    only = {"learning-platform:grafana": json.dumps(BUNDLED)}
    assert "a local stack takes external" in refusal(only)


def test_a_loopback_address_needs_no_tls() -> None:
    local = {"learning-platform:grafana": json.dumps({**EXTERNAL, "url": "http://127.0.0.1:3000"})}
    assert isinstance(read_settings(local).grafana, ExternalGrafanaSettings)


def test_the_url_of_a_dead_mans_switch_is_checked_and_not_shown() -> None:
    message = refusal(
        {"learning-platform:monitoring": json.dumps({"heartbeatUrl": "ftp://user:hunter2@host"})}
    )
    assert "learning-platform:monitoring.heartbeatUrl: takes an http or https URL" in message
    assert "hunter2" not in message
