"""The trigger's query, asked of the real Prometheus, and the replicas that come of it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerts.configuration import PrometheusSettings, ScrapeTarget, prometheus_configuration
from stacks.aws.environments import PROD
from stacks.kubernetes.monitoring import PROMETHEUS_URL
from stacks.kubernetes.scaling import ScalingArgs, scaled_object
from tests.alerts.monitoring_servers import running_prometheus
from tests.conftest import Tools
from tests.servers import free_port
from tests.stacks.autoscaler import SYNC_SECONDS, Autoscaler, NoAnswerError, ask
from tests.workers import tables
from tests.workers.programs import Producer, programs_on

QUEUE = "fsrs-optimization"
SCRAPE_SECONDS = 15
MINUTES = 70


def spec(queue: str = QUEUE) -> dict[str, Any]:
    args = ScalingArgs("learning-platform", queue, PROMETHEUS_URL, PROD.sizes[queue])
    return scaled_object(args)["spec"]


def jobs_at(minute: float) -> float | None:
    """The load that is recorded: none, a burst that is worked off, a silence, more, an overload."""
    if minute < 5:
        return 0
    if minute < 20:
        return 950 * (20 - minute) / 15
    if minute < 40:
        return 0
    if minute < 45:
        return 450
    if minute < 55:
        return None
    return 450 if minute < 60 else 50_000


def recorded(load: Callable[[float], float | None], start: int) -> str:
    """Return the load as two exporters tell it, the second of which never sees a job."""
    times = range(0, MINUTES * 60 + 1, SCRAPE_SECONDS)
    lines = ["# TYPE bullmq_queue_size gauge"]
    for instance, seen in (("10.0.0.1:9100", load), ("10.0.0.2:9100", _blind(load))):
        labels = f'job="exporter",instance="{instance}",queue="{QUEUE}"'
        lines += [
            f"bullmq_queue_size{{{labels}}} {value:.3f} {start + offset}"
            for offset in times
            if (value := seen(offset / 60)) is not None
        ]
    # Another queue, which no trigger must see.
    lines += [
        f'bullmq_queue_size{{job="exporter",instance="10.0.0.1:9100",queue="mail"}} 9999 '
        f"{start + offset}"
        for offset in times
    ]
    return "\n".join([*lines, "# EOF", ""])


def _blind(load: Callable[[float], float | None]) -> Callable[[float], float | None]:
    return lambda minute: None if load(minute) is None else 0


class Recording:
    """A Prometheus that has the load in its blocks; `at` asks the trigger as of a minute."""

    def __init__(self, url: str, start: int) -> None:
        self._url = url
        self._start = start

    def at(self, minute: float, trigger: dict[str, Any]) -> float | None:
        try:
            return ask(self._url, trigger, self._start + minute * 60)
        except NoAnswerError:
            return None


@pytest.fixture(scope="module")
def recording(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    directory = tmp_path_factory.mktemp("recording")
    start = int(time.time()) // 7200 * 7200 - 4 * 7200
    file = directory / "load.openmetrics"
    file.write_text(recorded(jobs_at, start))
    command = [tools["promtool"], "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*command, str(file), str(directory / "data")], check=True, capture_output=True)
    settings = PrometheusSettings(scrape_seconds=SCRAPE_SECONDS, targets=())
    configuration = prometheus_configuration(settings)
    with running_prometheus(tools["prometheus"], directory, configuration) as url:
        yield Recording(url, start)


@pytest.fixture(scope="module")
def course(recording: Recording) -> dict[float, int]:
    """The replicas at each quarter of a minute of the whole recording, two at its begin."""
    scaled = spec()
    autoscaler = Autoscaler(scaled, replicas=2)
    seconds = range(0, MINUTES * 60 + 1, SYNC_SECONDS)
    return {
        now / 60: autoscaler.sync(now, recording.at(now / 60, scaled["triggers"][0]))
        for now in seconds
    }


@pytest.mark.parametrize(
    ("minute", "jobs"),
    [(0, 0), (5, 950), (12.5, 475), (20, 0), (44, 450), (52, None), (65, 50_000)],
)
def test_the_query_answers_with_the_jobs_of_its_queue_as_the_exporter_that_sees_them_tells(
    minute: float, jobs: float | None, recording: Recording
) -> None:
    assert recording.at(minute, spec()["triggers"][0]) == jobs


@pytest.mark.parametrize(
    ("minute", "replicas", "why"),
    [
        (0, 2, "nothing to do: the least there are"),
        (4.75, 2, "still nothing"),
        (5, 4, "a burst of 950 jobs calls for 10: doubled at once"),
        (5.5, 8, "doubled again half a minute later"),
        (6, 9, "887 jobs are left by then: a pod for each hundred"),
        (10, 9, "633 are left, but five minutes ago there were more"),
        (20, 4, "none is left, and five minutes ago there were 317"),
        (26, 2, "the least again"),
        (39.75, 2, "and no fewer"),
        (40, 4, "450 jobs call for 5: doubled first"),
        (40.5, 5, "and then all"),
        (48, 5, "the exporter has gone; its last word counts for five minutes"),
        (54, 5, "no answer: as many as there were, not the least"),
        (59, 5, "it is back with the same jobs"),
        (60.5, 12, "50 000 jobs call for 500: the most there are"),
        (70, 12, "and no more"),
    ],
)
def test_the_replicas_follow_the_recorded_load(
    minute: float, replicas: int, why: str, course: dict[float, int]
) -> None:
    assert course[minute] == replicas, why


def test_pods_go_one_a_minute_at_most(course: dict[float, int]) -> None:
    for minute, replicas in course.items():
        if (before := course.get(minute - 1)) is not None:
            assert replicas >= before - 1


def test_with_nothing_to_compare_with_no_answer_falls_back_to_the_least(
    recording: Recording,
) -> None:
    scaled = spec()
    autoscaler = Autoscaler(scaled, replicas=scaled["minReplicaCount"])
    for poll in range(10):
        silent = recording.at(52, scaled["triggers"][0])
        assert autoscaler.sync(poll * SYNC_SECONDS, silent) == scaled["fallback"]["replicas"] == 2


def test_a_difference_of_a_tenth_changes_nothing() -> None:
    autoscaler = Autoscaler(spec(), replicas=4)
    for poll, jobs in enumerate((361, 400, 430, 439)):
        assert autoscaler.sync(poll * SYNC_SECONDS, jobs) == 4
    assert autoscaler.sync(4 * SYNC_SECONDS, 441) == 5


def test_the_other_worker_is_scaled_on_its_own_queue(recording: Recording) -> None:
    assert recording.at(5, spec("complexity")["triggers"][0]) is None


@pytest.mark.slow
def test_the_real_exporter_is_asked_and_a_dead_one_gives_no_answer(
    database_url: str, redis_url: str, tools: Tools, tmp_path: Path
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(tables.DDL)
    port = free_port()
    settings = PrometheusSettings(
        scrape_seconds=0.5, targets=(ScrapeTarget("exporter", f"127.0.0.1:{port}"),)
    )
    trigger = spec()["triggers"][0]
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(
            running_prometheus(
                tools["prometheus"], tmp_path / "prometheus", prometheus_configuration(settings)
            )
        )
        with programs_on(database_url, redis_url, tmp_path) as programs:
            programs.ready("exporter", METRICS_PORT=str(port))
            assert replicas_for(url, trigger, jobs=0) == 2
            Producer(redis_url, QUEUE).add_all([{}] * 460)
            assert replicas_for(url, trigger, jobs=460) == 5
        assert falls_silent(url, trigger, seconds=20)


def falls_silent(url: str, trigger: dict[str, Any], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            ask(url, trigger)
        except NoAnswerError:
            return True
        time.sleep(0.2)
    return False


def replicas_for(url: str, trigger: dict[str, Any], jobs: float) -> int:
    """Wait until Prometheus knows of so many jobs; return the replicas they come to in the end."""
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(NoAnswerError):
            if ask(url, trigger) == jobs:
                break
        assert time.monotonic() < deadline, f"not {jobs} jobs within 20 s"
        time.sleep(0.2)
    autoscaler = Autoscaler(spec(), replicas=2)
    return [autoscaler.sync(now, jobs) for now in range(0, 300, SYNC_SECONDS)][-1]
