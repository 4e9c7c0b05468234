"""Valkey behind Sentinels: the workers follow the primary when another server becomes it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import valkey
from valkey.exceptions import ValkeyError

from stacks.local.binaries import valkey_server
from tests.servers import free_port
from tests.workers import tables
from tests.workers.programs import Producer, programs_on, wait_until
from workers import connections

FSRS = "fsrs-optimization"
PRIMARY = "jobs"
PASSWORD = "a-password"
JOBS = 60

WRONG = [
    pytest.param("redis+sentinel://:hunter2@127.0.0.1:1/0", "primary=NAME", id="no name"),
    pytest.param("redis+sentinel://:hunter2@h:hunter2/0?primary=jobs", "no URL", id="no port"),
    pytest.param("redis+sentinel://:hunter2@h:1,:2/0?primary=jobs", "takes a URL", id="no host"),
    pytest.param("redis+sentinels://:hunter2@h/0?primary=jobs", "takes a URL", id="no scheme"),
    pytest.param(
        "redis+sentinel://:hunter2@h/0?primary=jobs&db=hunter2", "has an option", id="no option"
    ),
]


def test_a_url_of_sentinels_names_them_the_primary_and_both_log_ins() -> None:
    address = connections.parse(
        "rediss+sentinel://worker:pass%20word@one:26380,two/3"
        "?primary=jobs&sentinel_username=s&sentinel_password=p&ssl_ca_certs=/ca.pem"
    )
    assert address.sentinels == [("one", 26380), ("two", 26379)]
    assert address.primary == "jobs"
    assert address.options["username"] == "worker"
    assert address.options["password"] == "pass word"
    assert address.options["db"] == 3
    assert address.options["ssl"] is True
    assert address.sentinel_options["username"] == "s"
    assert address.sentinel_options["password"] == "p"
    assert address.sentinel_options["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(("url", "reason"), WRONG)
def test_a_wrong_url_is_refused_without_its_secrets(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        connections.parse(url)
    assert "hunter2" not in str(refused.value)


@dataclass
class Cluster:
    """Two servers, the first of which is the primary in the beginning, and three Sentinels."""

    ports: list[int]
    sentinel_ports: list[int]
    servers: list[subprocess.Popen[bytes]]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://:{PASSWORD}@{places}/0?primary={PRIMARY}"

    def client(self, number: int) -> Any:
        return valkey.Valkey(port=self.ports[number], password=PASSWORD, decode_responses=True)

    def primary(self) -> int | None:
        """Return the number of the server that a Sentinel takes for the primary."""
        sentinel: Any = valkey.Valkey(port=self.sentinel_ports[0], decode_responses=True)
        with suppress(ValkeyError), sentinel:
            _, port = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY)
            return self.ports.index(int(port))
        return None


def _run(directory: Path, lines: list[str], *arguments: str) -> subprocess.Popen[bytes]:
    directory.mkdir()
    configuration = directory / "valkey.conf"
    configuration.write_text("\n".join(["bind 127.0.0.1", f"dir {directory}", *lines]) + "\n")
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            [str(valkey_server()), str(configuration), *arguments], stdout=log, stderr=log
        )


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="test-sentinel-"))
    ports, sentinel_ports = [free_port() for _ in range(2)], [free_port() for _ in range(3)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, port in enumerate(ports):
            lines = [
                *(f"port {port}", f"requirepass {PASSWORD}", f"primaryauth {PASSWORD}"),
                *("maxmemory-policy noeviction", "repl-diskless-sync-delay 0"),
            ]
            if number:
                lines.append(f"replicaof 127.0.0.1 {ports[0]}")
            processes.append(_run(directory / str(port), lines))
        for port in sentinel_ports:
            lines = [
                f"port {port}",
                f"sentinel monitor {PRIMARY} 127.0.0.1 {ports[0]} 2",
                f"sentinel auth-pass {PRIMARY} {PASSWORD}",
                f"sentinel down-after-milliseconds {PRIMARY} 1000",
                f"sentinel failover-timeout {PRIMARY} 10000",
            ]
            processes.append(_run(directory / str(port), lines, "--sentinel"))
        found = Cluster(ports, sentinel_ports, processes[:2])
        wait_until(lambda: _is_whole(found))
        yield found
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _is_whole(cluster: Cluster) -> bool:
    """Tell whether the replica is in step, and the Sentinels know of it and of one another."""
    with suppress(ValkeyError):
        replication = cluster.client(0).info("replication")
        if replication.get("slave0", {}).get("state") != "online":
            return False
        for port in cluster.sentinel_ports:
            sentinel: Any = valkey.Valkey(port=port, decode_responses=True)
            state = sentinel.info("sentinel")["master0"]
            if (state["status"], state["slaves"], state["sentinels"]) != ("ok", 1, 3):
                return False
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "demoted"])
def test_no_job_is_lost_when_another_server_becomes_the_primary(
    cluster: Cluster,
    database_url: str,
    connection: psycopg.Connection,
    tmp_path: Path,
    killed: bool,
) -> None:
    learners = [tables.add_learner(connection, 250) for _ in range(JOBS)]
    with programs_on(database_url, cluster.url, tmp_path) as programs:
        exporter = programs.ready("exporter")
        worker = programs.ready(FSRS, CONCURRENCY="3")
        producer = Producer(f"redis://:{PASSWORD}@127.0.0.1:{cluster.ports[0]}/0", FSRS)
        jobs = [producer.add({"actorId": str(learner)}) for learner in learners]
        # The replica has them: what it has not when the primary dies is lost with that.
        wait_until(lambda: cluster.client(0).execute_command("WAIT", 1, 1000) == 1)
        wait_until(lambda: producer.counts()["completed"] >= 5)
        with connection.transaction():
            # However long the change takes, jobs are left: they wait for the reviews' table.
            connection.execute("LOCK TABLE review_logs IN ACCESS EXCLUSIVE MODE")
            if killed:
                cluster.servers[0].kill()
            else:
                sentinel = valkey.Valkey(port=cluster.sentinel_ports[0])
                sentinel.execute_command("SENTINEL", "FAILOVER", PRIMARY)
            wait_until(lambda: cluster.primary() == 1)
        assert cluster.client(1).llen(f"bull:{FSRS}:wait") > 0, "nothing was left to be done"
        after = Producer(f"redis://:{PASSWORD}@127.0.0.1:{cluster.ports[1]}/0", FSRS)
        wait_until(lambda: after.counts()["completed"] == JOBS, 60)
        assert after.counts()["failed"] == 0
        assert all(after.state(job) == "completed" for job in jobs)
        wait_until(lambda: exporter.value("bullmq_jobs", queue=FSRS, state="completed") == JOBS)
        assert worker.terminate() == 0
    row = connection.execute("SELECT count(DISTINCT actor_id) FROM workers.fsrs_runs").fetchone()
    assert row == (JOBS,)
