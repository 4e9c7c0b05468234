"""The workers of prod at work: an application in Node puts jobs in, the program's pods do them.

Nothing is lost when their number is changed, when one of them is killed, and when another version
is rolled out. The tests run in order, on one stack.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from stacks.kubernetes.namespaces import APPLICATIONS
from tests.alerts.monitoring_servers import running_prometheus
from tests.conftest import Tools
from tests.kubernetes.history import History, following
from tests.kubernetes.objects import is_ready, wait_for
from tests.kubernetes.pod_monitors import SERVICES, ask, configuration, request
from tests.stacks.autoscaler import SYNC_SECONDS, Autoscaler
from tests.stacks.autoscaler import ask as ask_trigger
from tests.stacks.production import Production
from tests.workers import tables
from tests.workers.ledger import Ledger
from tests.workers.node_queue import NodeQueue, node_queue
from workers.settings import FSRS_QUEUE, WorkerSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "app.kubernetes.io/name"
PREFIX = "bull"
VERSION = "sha256:" + "5" * 64
OPTIONS = {"attempts": 3, "backoff": {"type": "exponential", "delay": 200}}
WORKERS = WorkerSettings.model_fields
TAKEN_OVER_SECONDS = (
    WORKERS["lock_seconds"].default + 2 * WORKERS["stalled_interval_seconds"].default
)
"""A lock runs out, is seen to have done so, and is so still at the next look."""


@dataclass
class Platform:
    """Prod with the application beside it."""

    production: Production
    application: NodeQueue
    ledger: Ledger

    def jobs(self, learners: int, reviews: int) -> list[dict[str, Any]]:
        """Return a job for each of so many new actors with so many reviews."""
        connection = self.production.administrator
        with connection.transaction():
            actors = [tables.add_learner(connection, reviews, seed) for seed in range(learners)]
        data = [{"actorId": str(actor)} for actor in actors]
        return [{"name": "optimize", "data": each, "opts": OPTIONS} for each in data]

    def add(self, learners: int, reviews: int) -> list[str]:
        return self.application.ask(add=self.jobs(learners, reviews))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no job read its reviews, and so none get further than that."""
        connection = self.production.administrator
        with connection.transaction():
            connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
            yield

    def pods(self) -> list[dict[str, Any]]:
        """Return the pods of the worker that are ready and not told to go."""
        found = self.production.cluster.pods(**{NAME: FSRS_QUEUE})
        return [
            pod for pod in found if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        ]

    def scale(self, replicas: int) -> None:
        """Ask for so many pods of the worker, as the autoscaler does."""
        path = self.production.cluster.path("deployments", FSRS_QUEUE)
        self.production.cluster.api.patch(f"{path}/scale", {"spec": {"replicas": replicas}})

    def scaled(self, replicas: int) -> None:
        self.scale(replicas)
        wait_for(lambda: len(self.pods()) == replicas, 60)

    def completed(self, jobs: Sequence[str]) -> bool:
        return self.ledger.ended("completed").keys() >= set(jobs)

    def require_each_done_once(self, jobs: Sequence[str]) -> None:
        """Fail unless each of the jobs was completed once, and each completed job stored once."""
        completed = self.ledger.ended("completed")
        assert {job: completed[job] for job in jobs} == dict.fromkeys(jobs, 1)
        assert self.ledger.ended("failed") == Counter()
        assert self.application.counts()["failed"] == 0
        # All jobs there ever were: the scheduler may have added some of its own.
        assert self.ledger.stored() == self.ledger.actors()

    def doer(self, job: str) -> str:
        """Return the process that a job was taken by last."""
        return self.ledger.job(job).get("pb", "").rpartition("-")[2]


def process(pod: dict[str, Any]) -> str:
    """Return the id of the process that a pod's container is."""
    return pod["status"]["containerStatuses"][0]["containerID"].removeprefix("process://")


@pytest.fixture(scope="module")
def platform(
    production: Production, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    if not production.is_up:
        production.up()
    # Log in as the program lets one in: over TLS, as the user of its Secret.
    secret = production.cluster.get("secrets", "queue")["data"]["url"]
    queue, log = production.queue, tmp_path_factory.mktemp("application") / "node.log"
    with node_queue(
        FSRS_QUEUE,
        base64.b64decode(secret).decode(),
        log,
        PREFIX,
        queue.authority.certificate,
    ) as application:
        ledger = Ledger(production.administrator, queue.server.client(), f"{PREFIX}:{FSRS_QUEUE}")
        made = Platform(production, application, ledger)
        made.scaled(2)
        yield made
        production.administrator.execute("DROP SCHEMA ledger CASCADE")
        made.scale(1)


@pytest.fixture(scope="module")
def prometheus(
    platform: Platform, tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("prometheus")
    text = configuration(platform.production.plane)
    with running_prometheus(tools["prometheus"], directory, text) as url:
        yield url


def test_jobs_of_an_application_in_node_are_done_by_the_pods(platform: Platform) -> None:
    jobs = [*platform.add(6, reviews=250), *platform.add(4, reviews=3)]
    wait_for(lambda: platform.completed(jobs), 40)
    platform.require_each_done_once(jobs)
    assert {platform.doer(job) for job in jobs} <= {process(pod) for pod in platform.pods()}
    outcomes = platform.production.administrator.execute(
        "SELECT run.outcome, count(*), count(actor.fsrs_parameters) FROM workers.fsrs_runs AS run"
        " JOIN actors AS actor ON actor.id = run.actor_id GROUP BY run.outcome"
    ).fetchall()
    assert outcomes
    for outcome, runs, stored in outcomes:
        assert stored == (0 if outcome == "skipped" else runs)
    assert sum(runs for _, runs, _ in outcomes) == len(platform.ledger.stored())


def test_prometheus_scrapes_what_the_pod_monitors_select(
    platform: Platform, prometheus: str
) -> None:
    group = f"/apis/monitoring.coreos.com/v1/namespaces/{APPLICATIONS}/podmonitors"
    monitors = platform.production.cluster.api.get(group)["items"]
    given = request()["podMonitors"]
    # What the configuration was made of is what the program has made.
    assert {each["metadata"]["name"]: each["spec"] for each in monitors} == {
        each["metadata"]["name"]: each["spec"] for each in given
    }

    def scraped() -> list[tuple[dict[str, str], float]] | None:
        found = ask(prometheus, "up == 1")
        return found if {each["job"] for each, _ in found} == set(SERVICES) else None

    up = wait_for(scraped, 30)
    found = platform.production.cluster.pods()
    assert {each["pod"] for each, _ in up} == {
        pod["metadata"]["name"]
        for pod in found
        if pod["metadata"]["labels"].get(NAME) in SERVICES and is_ready(pod)
    }
    for series, size in ask(prometheus, f'bullmq_queue_size{{queue="{FSRS_QUEUE}"}}'):
        assert (series["job"], series["namespace"]) == ("exporter", APPLICATIONS)
        assert size == 0
    completed = len(platform.ledger.ended("completed"))
    processed = wait_for(
        lambda: ask(
            prometheus, f"sum by (job) (fsrs_optimization_jobs_processed_total) == {completed}"
        )
    )
    assert processed == [({"job": FSRS_QUEUE}, completed)]


def test_the_autoscalers_wish_is_fulfilled_and_taken_back_without_losing_a_job(
    platform: Platform, prometheus: str
) -> None:
    group = f"/apis/keda.sh/v1alpha1/namespaces/{APPLICATIONS}/scaledobjects/{FSRS_QUEUE}"
    spec = platform.production.cluster.api.get(group)["spec"]
    trigger = spec["triggers"][0]
    with following(platform.production.cluster, **{NAME: FSRS_QUEUE}) as history:
        with platform.held():
            jobs = platform.add(250, reviews=3)
            size = wait_for(lambda: ask_trigger(prometheus, trigger) or None)
            wait_for(lambda: ask_trigger(prometheus, trigger) == len(jobs))
            autoscaler = Autoscaler(spec, replicas=2)
            wanted = [autoscaler.sync(now, len(jobs)) for now in range(0, 300, SYNC_SECONDS)][-1]
            assert (size > 0, wanted) == (True, 3)
            platform.scaled(wanted)
            wait_for(lambda: platform.application.counts()["active"] == 3 * wanted)
            # Each has as many jobs as it can when two of them are told to go.
            platform.scale(1)
            leaving = wait_for(lambda: gone if len(gone := history.leaving()) == 2 else None)
        wait_for(lambda: platform.completed(jobs), 60)
        wait_for(lambda: len(platform.production.cluster.pods(**{NAME: FSRS_QUEUE})) == 1)
        wait_for(lambda: None not in history.exit_codes(leaving).values())
        assert set(history.exit_codes(leaving).values()) == {0}
    platform.require_each_done_once(jobs)
    assert wait_for(lambda: ask_trigger(prometheus, trigger) == 0)


@dataclass(frozen=True)
class Killed:
    """A pod that had a job when it was killed, on the clock of the queue's milliseconds."""

    pod: str
    process: str
    job: str
    at: float


@pytest.fixture(scope="module")
def killed(platform: Platform) -> Killed:
    """A pod killed in mid-job, whose machine never comes back: nobody hands back what it had."""
    platform.scaled(2)
    with platform.held():
        (job,) = platform.add(1, reviews=250)
        doer = wait_for(lambda: platform.doer(job))
        (pod,) = (pod["metadata"]["name"] for pod in platform.pods() if process(pod) == doer)
        platform.production.node.kill(APPLICATIONS, pod)
        at = time.time() * 1000
        platform.production.cluster.delete("pods", pod, grace=0)
    wait_for(lambda: len(platform.pods()) == 2, 60)
    return Killed(pod, doer, job, at)


@pytest.mark.usefixtures("killed")
def test_a_new_version_is_rolled_out_under_load_without_losing_a_job(platform: Platform) -> None:
    before = {pod["metadata"]["name"] for pod in platform.pods()}
    platform.ledger.pace(0.2)
    jobs = platform.jobs(3000, reviews=3)
    with following(platform.production.cluster, **{NAME: FSRS_QUEUE}) as history:
        platform.application.ask(feed=jobs, every=100)
        wait_for(lambda: platform.application.counts()["active"] > 1)
        platform.production.up(aws={"image": VERSION})
        after = {pod["metadata"]["name"] for pod in platform.pods()}
        wait_for(lambda: before <= history.leaving(), 60)
        wait_for(lambda: None not in history.exit_codes(before).values(), 60)
        added = platform.application.ask(fed=True)
        wait_for(lambda: platform.completed(added), 60)
    assert len(added) < len(jobs), "the load ended before the roll-out did"
    assert len(after) == 2, "the update has changed how many there are"
    assert not before & after
    images = {each["spec"]["containers"][0]["image"] for each in platform.pods()}
    assert {image.partition("@")[2] for image in images} == {VERSION}
    # As the Deployment's strategy has it: none may be missing, and one may be there besides.
    assert (history.fewest_ready, history.most) == (2, 3)
    assert set(history.exit_codes(before).values()) == {0}
    doers = Counter(platform.doer(job) for job in added)
    assert both_worked(history, before, after, doers)


def both_worked(history: History, before: set[str], after: set[str], doers: Counter[str]) -> bool:
    """Return whether pods of both versions have done some of the jobs."""
    return all(
        any(doers[process(history.pods[name])] for name in names) for names in (before, after)
    )


def test_the_job_of_a_killed_pod_is_done_by_another_as_soon_as_it_is_missed(
    platform: Platform, killed: Killed
) -> None:
    wait_for(lambda: platform.completed([killed.job]), TAKEN_OVER_SECONDS)
    job = platform.ledger.job(killed.job)
    assert platform.doer(killed.job) != killed.process
    assert 0 < float(job["finishedOn"]) - killed.at < TAKEN_OVER_SECONDS * 1000
    assert platform.ledger.ended("stalled") == {killed.job: 1}
    platform.require_each_done_once([killed.job])
