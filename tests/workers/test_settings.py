"""Settings from the environment: what is accepted, and how what is not is told."""

from __future__ import annotations

import pytest

from workers import settings
from workers.settings import SettingsError

GOOD = {
    "DATABASE_URL": "postgresql://worker:secret-one@127.0.0.1:5432/learning",
    "REDIS_URL": "redis://:secret-two@127.0.0.1:6379/0",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (
        settings.FsrsOptimizationSettings,
        settings.ComplexitySettings,
        settings.SchedulerSettings,
        settings.ExporterSettings,
    ):
        for field in kind.model_fields:
            monkeypatch.delenv(field.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_every_variable_the_platform_sets_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    common = {
        "METRICS_HOST": "127.0.0.2",
        "METRICS_PORT": "9999",
        "QUEUE_PREFIX": "{bull}",
        "LOG_FORMAT": "json",
        "DRAIN_SECONDS": "7",
        "CONCURRENCY": "5",
        "COMPLEXITY_CRON": "5 4 * * *",
    }
    for name, value in common.items():
        monkeypatch.setenv(name, value)
    worker = settings.load(settings.FsrsOptimizationSettings)
    assert (worker.metrics_host, worker.metrics_port) == ("127.0.0.2", 9999)
    assert (worker.queue_prefix, worker.log_format) == ("{bull}", "json")
    assert (worker.drain_seconds, worker.concurrency) == (7, 5)
    assert worker.database_url.get_secret_value() == GOOD["DATABASE_URL"]
    assert settings.load(settings.ComplexitySettings).drain_seconds == 7
    assert settings.load(settings.SchedulerSettings).complexity_cron == "5 4 * * *"
    assert settings.load(settings.ExporterSettings).queue_prefix == "{bull}"


@pytest.mark.parametrize(
    ("kind", "variable", "value", "message"),
    [
        (settings.ExporterSettings, "METRICS_PORT", "70000", "METRICS_PORT: Input should be less"),
        (settings.ExporterSettings, "LOG_FORMAT", "xml", "LOG_FORMAT: Input should be 'console'"),
        (settings.ExporterSettings, "QUEUES", "a,b", "QUEUES: takes a JSON list"),
        (settings.SchedulerSettings, "COMPLEXITY_CRON", "hourly!", "COMPLEXITY_CRON: is no cron"),
        (settings.SchedulerSettings, "COMPLEXITY_CRON", "0 0 30 2 *", "COMPLEXITY_CRON: is a cron"),
        (settings.ExporterSettings, "QUEUE_PREFIX", "my app", "QUEUE_PREFIX: String should match"),
        (settings.FsrsOptimizationSettings, "CONCURRENCY", "many", "CONCURRENCY: Input should be"),
        (settings.FsrsOptimizationSettings, "DRAIN_SECONDS", "0", "DRAIN_SECONDS: Input should be"),
        (
            settings.ComplexitySettings,
            "CDC_WEIGHT_GRADE",
            "0.9",
            "CDC_WEIGHT_GRADE, CDC_WEIGHT_STABILITY and CDC_WEIGHT_RETRIEVABILITY must sum to 1",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[settings.Settings],
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refusal:
        settings.load(kind)
    assert str(refusal.value).startswith(message)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://root:hunter2@127.0.0.1/x"),
        ("DATABASE_URL", "postgresql://root:hunter2@127.0.0.1:port/x"),
        ("DATABASE_URL", "postgresql://root:hunter2%zz@127.0.0.1/x"),
        ("DATABASE_URL", "postgresql://root:hunter2@127.0.0.1/x?sslmod=require"),
        ("DATABASE_REPLICA_URL", "mysql://root:hunter2@127.0.0.1/x"),
        ("DATABASE_REPLICA_URL", "postgresql://root:hunter2%zz@127.0.0.1/x"),
        ("REDIS_URL", "hunter2"),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1/0?decode_responses=true"),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1/0?nonsense=1"),
        ("REDIS_URL", "rediss://:hunter2@127.0.0.1/0?ssl_cert_reqs=hunter2"),
    ],
)
def test_a_refused_url_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refusal:
        settings.load(settings.ComplexitySettings)
    assert str(refusal.value).startswith(f"{variable}: ")
    assert "hunter2" not in str(refusal.value)


def test_what_is_missing_is_named_with_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("REDIS_URL", "")
    with pytest.raises(SettingsError) as refusal:
        settings.load(settings.ExporterSettings)
    lines = str(refusal.value).splitlines()
    assert lines[0].startswith("DATABASE_URL: is not set. Postgres, as postgresql://")
    assert lines[1].startswith("REDIS_URL: is not set. Valkey or Redis, as redis://")


def test_secrets_do_not_show_in_the_settings_themselves() -> None:
    assert "secret" not in repr(settings.load(settings.ExporterSettings))
