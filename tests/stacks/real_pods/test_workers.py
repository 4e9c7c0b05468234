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
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stacks.kubernetes.namespaces import APPLICATIONS
from stacks.kubernetes.pods import METRICS_PORT, NAME
from tests.alerts.monitoring_servers import running_prometheus
from tests.conftest import Tools
from tests.kubernetes.history import following
from tests.kubernetes.objects import Cluster, is_ready, once, python, wait_for
from tests.kubernetes.pod_monitors import SERVICES, ask, configuration, request
from tests.stacks.autoscaler import SYNC_SECONDS, Autoscaler
from tests.stacks.autoscaler import ask as ask_trigger
from tests.stacks.production import Production
from tests.workers import tables
from tests.workers.ledger import Ledger
from tests.workers.node_queue import NodeQueue, node_queue
from workers.queue_metrics import BACKLOG
from workers.settings import FSRS_QUEUE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PREFIX = "bull"
CONCURRENCY = 3
"""As the settings of prod have it."""
VERSION = "sha256:" + "5" * 64
START = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=240)
"""Of the reviews: in months for which a partitioned table has partitions by then."""
OPTIONS = {"attempts": 3, "backoff": {"type": "exponential", "delay": 200}}
LOCK_SECONDS, STALLED_INTERVAL_SECONDS = 6, 3
"""Those of the version that is rolled out; 30 are a long time for a test."""
TAKEN_OVER_SECONDS = LOCK_SECONDS + 2 * STALLED_INTERVAL_SECONDS
"""A lock runs out, at the next look that is noted, and at the one after it is still so."""


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
            actors = [
                tables.add_learner(connection, reviews, seed, start=START)
                for seed in range(learners)
            ]
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

    def scaled(self, replicas: int) -> None:
        scale(self.production.cluster, replicas)
        wait_for(lambda: len(self.pods()) == replicas, 60)

    def size(self) -> int:
        """Return how many jobs are still to be done, as the application knows."""
        counts = self.application.counts()
        return sum(counts[state] for state in BACKLOG)

    def completed(self, jobs: Sequence[str]) -> bool:
        return self.ledger.ended("completed").keys() >= set(jobs)

    def require_each_done_once(self, jobs: Sequence[str]) -> None:
        """Fail unless each of the jobs was completed once, and each completed job stored once."""
        completed = self.ledger.ended("completed")
        assert {job: completed[job] for job in jobs} == dict.fromkeys(jobs, 1)
        assert self.ledger.ended("failed") == Counter()
        assert self.application.counts()["failed"] == 0
        # All jobs there ever were: the scheduler may have added some of its own.
        wait_for(lambda: self.ledger.stored() == self.ledger.completed_for())

    def doer(self, job: str) -> str:
        """Return the process that a job was taken by last."""
        return self.ledger.job(job).get("pb", "").rpartition("-")[2]


def process(pod: dict[str, Any]) -> str:
    """Return the id of the process that a pod's container is."""
    return pod["status"]["containerStatuses"][0]["containerID"].removeprefix("process://")


def processes(platform: Platform) -> dict[str, str]:
    """Return the processes of the worker's pods, by pod."""
    return {pod["metadata"]["name"]: process(pod) for pod in platform.pods()}


def scale(cluster: Cluster, replicas: int) -> None:
    """Ask for so many pods of the worker, as the autoscaler does."""
    path = cluster.path("deployments", FSRS_QUEUE)
    cluster.api.patch(f"{path}/scale", {"spec": {"replicas": replicas}})


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
        # Neither ledger nor pods know of what was before.
        scale(production.cluster, 0)
        wait_for(lambda: not production.cluster.pods(**{NAME: FSRS_QUEUE}), 60)
        ledger = Ledger(production.administrator, queue.server.client(), f"{PREFIX}:{FSRS_QUEUE}")
        made = Platform(production, application, ledger)
        made.scaled(2)
        yield made
        production.administrator.execute("DROP SCHEMA ledger CASCADE")
        scale(production.cluster, 1)


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
        "SELECT run.outcome, count(*), count(actor.fsrs_parameters)"
        " FROM workers.fsrs_runs AS run JOIN actors AS actor ON actor.id = run.actor_id"
        " WHERE run.actor_id IN (SELECT actor_id FROM ledger.stored) GROUP BY run.outcome"
    ).fetchall()
    runs = {outcome: number for outcome, number, _ in outcomes}
    assert runs.pop("skipped") == 4
    assert runs == {outcome: stored for outcome, _, stored in outcomes if outcome != "skipped"}
    assert sum(runs.values()) >= 6


@contextmanager
def strays(cluster: Cluster) -> Iterator[None]:
    """Pods that a service's PodMonitor must leave alone: one on another port, one that ended."""
    labels = {NAME: "exporter"}
    port = [{"name": "http", "containerPort": METRICS_PORT}]
    cluster.run("other-port", once(python("import time; time.sleep(600)", ports=port)), **labels)
    port = [{"name": "metrics", "containerPort": METRICS_PORT}]
    cluster.run("ended", once(python("print()", ports=port)), **labels)
    cluster.ended("ended")
    wait_for(lambda: is_ready(cluster.get("pods", "other-port")))
    yield
    for name in ("other-port", "ended"):
        cluster.delete("pods", name, grace=0)


def test_prometheus_scrapes_what_the_pod_monitors_select(
    platform: Platform, prometheus: str
) -> None:
    serving = {
        pod["metadata"]["name"]
        for pod in platform.production.cluster.pods()
        if pod["metadata"]["labels"][NAME] in SERVICES and is_ready(pod)
    }
    group = f"/apis/monitoring.coreos.com/v1/namespaces/{APPLICATIONS}/podmonitors"
    monitors = platform.production.cluster.api.get(group)["items"]
    given = request()["podMonitors"]
    # What Prometheus's configuration was made of is what the program has made.
    assert {each["metadata"]["name"]: each["spec"] for each in monitors} == {
        each["metadata"]["name"]: each["spec"] for each in given
    }

    with strays(platform.production.cluster):
        wait_for(lambda: {each["pod"] for each, _ in ask(prometheus, "up == 1")} == serving, 30)
        # Neither the strays, nor pods of steps, nor anything else.
        up = [series for series, _ in ask(prometheus, "up")]
    assert {each["pod"] for each in up} == serving
    assert {each["job"] for each in up} == set(SERVICES)
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
            # The scheduler may have added some besides.
            wait_for(lambda: ask_trigger(prometheus, trigger) == platform.size() >= len(jobs))
            autoscaler, size = Autoscaler(spec, replicas=2), platform.size()
            wanted = [autoscaler.sync(now, size) for now in range(0, 300, SYNC_SECONDS)][-1]
            assert wanted == 3
            platform.scaled(wanted)
            wait_for(lambda: platform.application.counts()["active"] == CONCURRENCY * wanted)
            # Each has as many jobs as it can when two of them are told to go.
            scale(platform.production.cluster, 1)
            leaving = wait_for(lambda: gone if len(gone := history.leaving()) == 2 else None)
        wait_for(lambda: platform.completed(jobs), 60)
        wait_for(lambda: len(platform.production.cluster.pods(**{NAME: FSRS_QUEUE})) == 1)
        wait_for(lambda: None not in history.exit_codes(leaving).values())
        assert set(history.exit_codes(leaving).values()) == {0}
    platform.require_each_done_once(jobs)
    wait_for(lambda: ask_trigger(prometheus, trigger) == platform.size() == 0)


def test_a_new_version_is_rolled_out_under_load_without_losing_a_job(platform: Platform) -> None:
    production = platform.production
    platform.scaled(2)
    platform.ledger.pace(0.2)
    jobs = [*platform.jobs(10, reviews=250), *platform.jobs(40, reviews=3)]
    before = processes(platform)
    bring_another_version(production)
    with following(production.cluster, **{NAME: FSRS_QUEUE}) as history:
        platform.application.ask(feed=jobs, every=100)
        wait_for(lambda: platform.application.counts()["active"] > 1)
        production.up(aws={"image": VERSION})
        after = processes(platform)
        # The last of the old ones may still be at its last jobs.
        wait_for(lambda: before.keys() <= history.leaving(), 60)
        wait_for(lambda: None not in history.exit_codes(before).values(), 60)
        added = platform.application.ask(fed=True)
        wait_for(lambda: platform.completed(added), 60)
    platform.ledger.pace(0)
    assert len(after) == 2, "the update has changed how many there are"
    assert not before.keys() & after.keys()
    images = {each["spec"]["containers"][0]["image"] for each in platform.pods()}
    assert {image.partition("@")[2] for image in images} == {VERSION}
    # As the Deployment's strategy has it: none may be missing, and one may be there besides.
    assert (history.fewest_ready, history.most) == (2, 3)
    assert set(history.exit_codes(before).values()) == {0}
    platform.require_each_done_once(added)
    doers = {platform.doer(job) for job in added}
    # Both versions worked on it.
    assert doers & set(before.values())
    assert doers & set(after.values())
    assert doers <= {*before.values(), *after.values()}


def bring_another_version(production: Production) -> None:
    """Let the pods that start from now on miss each other's jobs sooner."""
    image = production.node.image
    quick = {
        "LOCK_SECONDS": str(LOCK_SECONDS),
        "STALLED_INTERVAL_SECONDS": str(STALLED_INTERVAL_SECONDS),
    }
    production.node.image = replace(image, variables={**image.variables, **quick})


def test_the_job_of_a_killed_pod_is_done_by_another_as_soon_as_it_is_missed(
    platform: Platform,
) -> None:
    production = platform.production
    # A worker of the version before may have looked last, and nobody else looks for its interval.
    wait_for(lambda: platform.ledger.next_look() <= STALLED_INTERVAL_SECONDS, 40)
    with platform.held():
        (job,) = platform.add(1, reviews=250)
        doer = wait_for(lambda: platform.doer(job))
        (pod,) = (name for name, process in processes(platform).items() if process == doer)
        production.node.kill(APPLICATIONS, pod)
        killed = time.time()
        # Its machine is gone: nothing of it comes back, nobody hands back what it had.
        production.cluster.delete("pods", pod, grace=0)
    wait_for(lambda: platform.completed([job]), TAKEN_OVER_SECONDS + 5)
    finished = float(platform.ledger.job(job)["finishedOn"]) / 1000
    assert 0 < finished - killed < TAKEN_OVER_SECONDS
    assert platform.doer(job) != doer
    assert platform.ledger.ended("stalled") == {job: 1}
    platform.require_each_done_once([job])
