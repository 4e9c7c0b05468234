"""Our own pods, as the stacks declare them, run on the stand-ins: database steps, then workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from migrations.roles import STEPS, WORKERS
from stacks.aws.cache import USER, access_string
from stacks.kubernetes.pods import PodArgs, SecretKey
from stacks.kubernetes.service import DeploymentArgs, deployment
from stacks.kubernetes.sizes import Size
from stacks.kubernetes.step import StepJobArgs, job
from stacks.platform import StepSpec
from tests.kubernetes.certificates import Authority
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.identity import Identities
from tests.kubernetes.node import Node, running_node
from tests.kubernetes.objects import Cluster, is_ready, states, wait_for
from tests.kubernetes.pods import Tempo
from tests.kubernetes.rds import PORT, allow, running_database
from tests.kubernetes.valkey import Queue, running_queue
from tests.rds import Rds, SecretsManager
from tests.workers import tables
from tests.workers.programs import Producer

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
DATABASE = "learning_platform"
FSRS = "fsrs-optimization"
PREFIX = "learning-platform"
ACCOUNTS = {"roles": set[str](), "steps": {STEPS}, FSRS: {WORKERS}, "exporter": {WORKERS}}


@dataclass
class World:
    """A cluster with a database and a queue as AWS has them, and whom they let in."""

    cluster: Cluster
    node: Node
    rds: Rds
    queue: Queue
    secret: SecretsManager
    administrator: psycopg.Connection

    def pod(self, name: str, account: str, role: str, arguments: Sequence[str]) -> PodArgs:
        place = f"{self.rds.host}:{PORT}/{DATABASE}?sslmode=verify-full"
        environment = {
            "DATABASE_URL": f"postgresql://{role}@{place}",
            "DATABASE_AUTHENTICATION": "aws-iam",
            "AWS_REGION": REGION,
        }
        return PodArgs(
            name=name,
            image="registry.example/ours@sha256:0",
            arguments=arguments,
            service_account=account,
            size=Size(100, 256),
            environment=environment,
        )

    def step(self, name: str, account: str, *arguments: str, **environment: str) -> str:
        """Run a step to its end; return what it wrote."""
        pod = self.pod(name, account, STEPS, arguments)
        pod = replace(pod, environment={**pod.environment, **environment}, restart_policy="Never")
        spec = StepSpec(command=arguments, sql="")
        manifest = job(StepJobArgs(self.cluster.namespace, name, spec, pod))
        made = self.cluster.api.create(self.cluster.path("jobs"), manifest)["metadata"]["name"]

        def ended() -> bool:
            status = self.cluster.get("jobs", made)["status"]
            return bool(status.get("succeeded") or status.get("failed"))

        wait_for(ended, 60)
        (pod_found,) = self.cluster.pods(**{"job-name": made})
        log = self.node.logs(self.cluster.namespace, pod_found["metadata"]["name"])
        assert states(pod_found)[0]["terminated"]["exitCode"] == 0, log
        return log

    def deploy(self, name: str, replicas: int) -> None:
        pod = self.pod(name, name, WORKERS, ("-m", "workers", name))
        own = {"PROCESSES": "1", "QUEUE_PREFIX": PREFIX, "DRAIN_SECONDS": "30"}
        pod = replace(
            pod,
            environment={**pod.environment, **own},
            secrets={"REDIS_URL": SecretKey("queue", "url")},
            serving=True,
            stop_seconds=40,
        )
        manifest = deployment(DeploymentArgs(self.cluster.namespace, pod))
        manifest["spec"]["replicas"] = replicas
        self.cluster.api.apply(self.cluster.path("deployments", name), manifest)

    def ready(self, name: str) -> list[str]:
        pods = self.cluster.pods(**{"app.kubernetes.io/name": name})
        return [pod["metadata"]["name"] for pod in pods if is_ready(pod)]


@pytest.fixture
def world(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[World]:
    cluster = Cluster(control_plane.api, namespace)
    for account in ACCOUNTS:
        cluster.create("serviceaccounts", account)
    identities = Identities({(namespace, name): name for name in ACCOUNTS}, REGION)
    allow(identities, ACCOUNTS)
    authority = Authority(tmp_path, "AWS")
    with ExitStack() as stack:
        rds = stack.enter_context(running_database(authority, identities, master="master"))
        queue = stack.enter_context(running_queue(authority))
        login = json.dumps({"username": "master", "password": rds.master_password})
        secret = stack.enter_context(SecretsManager(login))
        environment = {
            "PGSSLROOTCERT": str(authority.certificate),
            "SSL_CERT_FILE": str(authority.certificate),
            "PYTHONUNBUFFERED": "1",
            **secret.environment,
        }
        del environment["DATABASE_MASTER_SECRET_ARN"]
        node = stack.enter_context(
            running_node(
                control_plane,
                identities=identities,
                environment=environment,
                tempo=Tempo(probe_at_most_every=1),
            )
        )
        with psycopg.connect(rds.server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER master")
        administrator = stack.enter_context(
            psycopg.connect(rds.server.url, dbname=DATABASE, autocommit=True)
        )
        yield World(cluster, node, rds, queue, secret, administrator)


def test_our_pods_make_the_roles_migrate_and_work_and_lose_no_job(world: World) -> None:
    arn = world.secret.arn
    roles = ("-m", "migrations", "roles", "--iam=required", "--json")
    said = world.step("roles", "roles", *roles, DATABASE_MASTER_SECRET_ARN=arn)
    assert world.rds.master_password not in said
    world.step("schema", "steps", "-m", "migrations", "upgrade", "--json")
    world.step("install", "steps", "-m", "workers", "install", f"--role={WORKERS}", "--json")

    world.queue.set_user(USER, "secret", access_string(PREFIX))
    url = world.queue.url(USER, "secret")
    world.cluster.create("secrets", "queue", stringData={"url": url})
    world.deploy(FSRS, 2)
    world.deploy("exporter", 1)
    wait_for(lambda: len(world.ready(FSRS)) == 2 and len(world.ready("exporter")) == 1, 60)

    learners = [tables.add_learner(world.administrator, 250, seed) for seed in range(6)]
    producer = Producer(world.queue.server.url, FSRS, PREFIX)
    jobs = producer.add_all([{"actorId": str(learner)} for learner in learners])
    wait_for(lambda: producer.counts()["active"] >= 1)
    # Both stop in the midst of it, each after the job it has.
    world.deploy(FSRS, 0)
    label = {"app.kubernetes.io/name": FSRS}
    wait_for(lambda: not world.cluster.pods(**label), 60)
    counts = producer.counts()
    assert counts["active"] == counts["failed"] == 0
    # A job that was handed back may wait a while for its next try.
    assert counts["completed"] + counts["waiting"] + counts["delayed"] == len(jobs)
    world.deploy(FSRS, 1)
    wait_for(lambda: producer.counts()["completed"] == len(jobs), 90)
    rows = world.administrator.execute("SELECT count(*) FROM workers.fsrs_runs").fetchone()
    assert rows == (len(learners),)
