"""Ways to reach Valkey: TLS, users with few rights, and a cluster."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import valkey
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import NoPermissionError

from stacks.local.binaries import valkey_server as valkey_program
from tests.servers import ValkeyServer, free_port, running_valkey
from tests.workers import tables
from tests.workers.network import network_to, through
from tests.workers.programs import Producer, Programs, programs_on, wait_until

FSRS = "fsrs-optimization"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "workers.md"

pytestmark = pytest.mark.slow


def works(programs: Programs, producer: Producer, connection: psycopg.Connection) -> None:
    """Assert that all programs do their work: the scheduler's jobs are done, and counted."""
    learner = tables.add_learner(connection, 250)
    exporter = programs.ready("exporter")
    programs.ready("scheduler")
    worker = programs.ready(FSRS)
    wait_until(
        lambda: exporter.value("bullmq_jobs_finished_total", queue=FSRS, state="completed") == 1
    )
    row = connection.execute("SELECT actor_id FROM workers.fsrs_runs").fetchone()
    assert row == (learner,)
    failed = producer.add({})
    producer.wait_for(failed, "failed")
    wait_until(lambda: exporter.value("bullmq_jobs", queue=FSRS, state="failed") == 1)
    assert exporter.value("bullmq_workers", queue=FSRS) == 1
    assert worker.terminate() == 0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=valkey", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files


def test_over_tls_the_programs_work_and_an_unknown_certificate_is_refused(
    connection: psycopg.Connection,
    database_url: str,
    redis_url: str,
    fsrs_queue: Producer,
    certificate: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with network_to(urlsplit(redis_url).port or 0, context) as network:
        url = through(redis_url, network, "rediss")
        trusting = f"{url}?ssl_ca_certs={certificate[0]}"
        with programs_on(database_url, trusting, tmp_path) as programs:
            works(programs, fsrs_queue, connection)
        with programs_on(database_url, url, tmp_path) as programs:
            worker = programs.start(FSRS)
            wait_until(lambda: "certificate verify failed" in worker.get("/readyz")[1].lower())
            assert worker.terminate() == 0


def test_programs_leave_a_server_that_became_a_replica_though_it_keeps_their_connections(
    connection: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    """As behind a managed primary's name, which leads to another server after a failover."""
    learners = [tables.add_learner(connection, 250)]
    with (
        running_valkey() as old,
        running_valkey() as new,
        network_to(urlsplit(old.url).port or 0) as network,
        programs_on(database_url, through(old.url, network), tmp_path) as programs,
    ):
        worker = programs.ready(FSRS)
        scheduler = programs.ready("scheduler")

        def done() -> float | None:
            return worker.value("jobs_completed_total", queue=FSRS)

        wait_until(lambda: done() == 1)
        new.client().config_set("requirepass", urlsplit(old.url).password or "")
        network.lead_to(urlsplit(new.url).port or 0)
        old.client().replicaof("127.0.0.1", urlsplit(new.url).port)
        learners.append(tables.add_learner(connection, 250))
        wait_until(lambda: done() == 2, 40)
        wait_until(lambda: worker.get("/readyz")[0] == scheduler.get("/readyz")[0] == 200)
        rows = connection.execute("SELECT actor_id FROM workers.fsrs_runs").fetchall()
        assert {row[0] for row in rows} == set(learners)
        assert (worker.terminate(), scheduler.terminate()) == (0, 0)


def documented_rules() -> Iterator[tuple[str, list[str]]]:
    """Return user and rules of every `ACL SETUSER` in the documentation."""
    for line in DOCUMENT.read_text().splitlines():
        words = line.split()
        if words[:2] == ["ACL", "SETUSER"]:
            yield words[2], words[3:]


def test_users_with_the_documented_rights_suffice_and_may_do_nothing_else(
    connection: psycopg.Connection,
    database_url: str,
    redis_url: str,
    fsrs_queue: Producer,
    tmp_path: Path,
) -> None:
    admin = valkey.Valkey.from_url(redis_url)
    port = urlsplit(redis_url).port
    urls: dict[str, str] = {}
    try:
        for user, rules in documented_rules():
            password = f"of-{user}"
            given = [f">{password}" if rule.startswith(">") else rule for rule in rules]
            admin.execute_command("ACL", "SETUSER", user, *given)
            urls[user] = f"redis://{user}:{password}@127.0.0.1:{port}/0"
        with (
            programs_on(database_url, urls["workers"], tmp_path) as programs,
            programs_on(database_url, urls["exporter"], tmp_path / "exporter") as others,
        ):
            (tmp_path / "exporter").mkdir()
            exporter = others.ready("exporter", QUEUES="[]", DISCOVERY_SECONDS="0.5")
            learner = tables.add_learner(connection, 250)
            programs.ready("scheduler")
            programs.ready(FSRS)
            labels = {"queue": FSRS, "state": "completed"}
            wait_until(lambda: exporter.value("bullmq_jobs_finished_total", **labels) == 1)
            assert exporter.value("bullmq_workers", queue=FSRS) == 1
            fsrs_queue.wait_for(fsrs_queue.add({}), "failed")
            job = fsrs_queue.add({"actorId": str(learner)}, delay=100)
            fsrs_queue.wait_for(job, "completed")
            assert not any("NOPERM" in program.log for program in programs.started)
            assert "NOPERM" not in exporter.log
        refused = {
            "workers": [
                "FLUSHALL",
                "KEYS *",
                "CONFIG GET *",
                "GET other",
                "SCRIPT FLUSH",
                "ACL LIST",
            ],
            "exporter": ["FLUSHALL", "KEYS *", "SET bull:x 1", "GET other", "CLIENT KILL ID 1"],
        }
        for user, commands in refused.items():
            client = valkey.Valkey.from_url(urls[user])
            for command in commands:
                with pytest.raises(NoPermissionError):
                    client.execute_command(*command.split())
    finally:
        for user in urls:
            admin.execute_command("ACL", "DELUSER", user)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey in cluster mode: a script or pipeline whose keys lie in two slots is refused."""
    server = ValkeyServer(tmp_path, free_port(), "password")
    configuration = tmp_path / "valkey.conf"
    configuration.write_text(
        f"bind 127.0.0.1\nport {server.port}\nrequirepass {server.password}\ndir {tmp_path}\n"
        f"cluster-enabled yes\ncluster-port {free_port()}\nmaxmemory-policy noeviction\n"
    )
    with (tmp_path / "server.log").open("wb") as log:
        server.process = subprocess.Popen(
            [str(valkey_program()), str(configuration)], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(ValkeyConnectionError):
                server.client().ping()
                break
            time.sleep(0.05)
        client = server.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")))
        yield server
    finally:
        server.stop(kill=True)


def test_with_a_hash_tag_as_prefix_all_keys_of_a_queue_lie_in_one_slot_of_a_cluster(
    connection: psycopg.Connection, database_url: str, cluster: ValkeyServer, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=r"same slot|CROSSSLOT|not allowed"):
        Producer(cluster.url, FSRS).add({})
    directory = tmp_path / "programs"
    directory.mkdir()
    with programs_on(database_url, cluster.url, directory, QUEUE_PREFIX="{bull}") as programs:
        works(programs, Producer(cluster.url, FSRS, "{bull}"), connection)
    client = cluster.client()
    keys = [str(key) for key in client.scan_iter()]
    assert len(keys) > 10
    assert {client.execute_command("CLUSTER", "KEYSLOT", key) for key in keys} == {
        client.execute_command("CLUSTER", "KEYSLOT", "bull")
    }
