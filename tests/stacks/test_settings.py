"""Settings: what is accepted, and how what is not is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from stacks.settings import (
    AnkiHistorySettings,
    Settings,
    SettingsError,
    SimulatedHistorySettings,
    read_settings,
)

ROOT = Path(__file__).resolve().parents[2]


def refusal(configuration: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(configuration)
    return str(caught.value)


def project(key: str, value: object) -> dict[str, str]:
    return {f"learning-platform:{key}": json.dumps(value)}


def test_an_empty_configuration_gives_the_defaults() -> None:
    assert read_settings({}) == Settings()


def test_the_committed_local_settings_are_valid_and_go_through_to_cutover() -> None:
    document = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())
    configuration = {key: json.dumps(value) for key, value in document["config"].items()}
    settings = read_settings(configuration)
    assert settings.partitioning.phase == "cutover"
    assert settings.history == SimulatedHistorySettings(
        source="simulated", actors=200, reviews=200_000, months=18, seed=1
    )
    assert settings.local.keep_data


def test_plain_text_values_are_read_as_pulumi_hands_them_over() -> None:
    assert not read_settings({"local:keepData": "false"}).local.keep_data


def test_keys_of_pulumi_and_of_providers_are_left_alone() -> None:
    assert read_settings({"aws:region": "eu-central-1", "pulumi:tags": "{}"}) == Settings()


def test_an_export_can_be_the_history() -> None:
    settings = read_settings(project("history", {"source": "anki", "path": "revlog.csv"}))
    assert settings.history == AnkiHistorySettings(source="anki", path=Path("revlog.csv"))


@pytest.mark.parametrize(
    ("configuration", "key", "got", "takes"),
    [
        (
            project("partitioning", {"phase": "cutovr"}),
            "learning-platform:partitioning.phase",
            "'cutovr'",
            "'cutover'",
        ),
        (
            project("partitioning", {"phase": "sync", "jobs": 0}),
            "learning-platform:partitioning.jobs",
            "0",
            "greater than or equal to 1",
        ),
        (project("partitioning", "sync"), "learning-platform:partitioning", "'sync'", "mapping"),
        (
            project("history", {"source": "nki"}),
            "learning-platform:history",
            "nki",
            "'simulated', 'anki', 'none'",
        ),
        (
            project("history", {"source": "simulated", "actors": "many"}),
            "learning-platform:history.actors",
            "'many'",
            "integer",
        ),
        (
            project("workers", {"complexityCron": "hourly!"}),
            "learning-platform:workers.complexityCron",
            "'hourly!'",
            "is no cron pattern",
        ),
        (
            project("workers", {"complexityCron": "0 0 30 2 *"}),
            "learning-platform:workers.complexityCron",
            "'0 0 30 2 *'",
            "whose time never comes",
        ),
        ({"local:keepData": "perhaps"}, "local:keepData", "'perhaps'", "boolean"),
        (
            {"local:ports": json.dumps({"postgres": 80})},
            "local:ports.postgres",
            "80",
            "greater than or equal to 1024",
        ),
    ],
)
def test_a_wrong_value_is_refused_naming_the_key_what_it_got_and_what_it_takes(
    configuration: dict[str, str], key: str, got: str, takes: str
) -> None:
    message = refusal(configuration)
    assert f"{key}: got" in message
    assert got in message
    assert takes in message


@pytest.mark.parametrize(
    ("configuration", "key", "known"),
    [
        (project("partitoning", {}), "learning-platform:partitoning", "partitioning"),
        ({"local:keepDta": "true"}, "local:keepDta", "local:keepData"),
        (
            project("partitioning", {"phase": "sync", "phse": "x"}),
            "learning-platform:partitioning.phse",
            "phase",
        ),
        (
            project("history", {"source": "simulated", "actrs": 1}),
            "learning-platform:history.actrs",
            "actors",
        ),
        ({"local:ports": json.dumps({"redis": 6379})}, "local:ports.redis", "valkey"),
    ],
)
def test_an_unknown_key_is_refused_naming_those_that_are_known(
    configuration: dict[str, str], key: str, known: str
) -> None:
    message = refusal(configuration)
    assert f"{key}: unknown key; known are" in message
    assert known in message.split("known are", 1)[1]


def test_every_problem_is_told_at_once() -> None:
    message = refusal({**project("partitioning", {"phase": "x"}), "local:keepDta": "true"})
    assert "learning-platform:partitioning.phase" in message
    assert "local:keepDta" in message


def test_a_missing_key_is_named() -> None:
    message = refusal(project("history", {"source": "anki"}))
    assert "learning-platform:history.path: missing" in message


def test_a_wrong_webhook_url_is_refused_without_showing_it() -> None:
    message = refusal(project("monitoring", {"webhookUrl": "ftp://user:hunter2@host"}))
    assert "learning-platform:monitoring.webhookUrl" in message
    assert "hunter2" not in message
