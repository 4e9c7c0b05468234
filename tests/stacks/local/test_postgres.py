"""The cluster and its database: real initdb, real passwords."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from stacks.local.binaries import postgres_program
from stacks.local.data_directory import _make
from stacks.local.identity import run_as, service_user
from stacks.local.postgres_cluster import initialise
from stacks.local.postgres_database import ensure_database
from tests.servers import PostgresServer, free_port


@pytest.fixture
def data_directory() -> Iterator[Path]:
    """A service's data directory; not below pytest's, which other users may not pass through."""
    parent = Path(tempfile.mkdtemp(prefix="data-"))
    _make(parent / "data", service_user() or "")
    yield parent / "data"
    shutil.rmtree(parent)


@contextmanager
def running(directory: Path, user: str | None) -> Iterator[int]:
    port = free_port()
    log = directory / "log"
    subprocess.run(
        [
            str(postgres_program("pg_ctl")),
            *("-D", str(directory), "-w", "-l", str(log)),
            *("-o", f"-p {port} -h 127.0.0.1 -c unix_socket_directories=''", "start"),
        ],
        check=True,
        **run_as(user),
        cwd="/",
        stdout=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        subprocess.run(
            [str(postgres_program("pg_ctl")), "-D", str(directory), "-w", "-m", "fast", "stop"],
            check=True,
            **run_as(user),
            cwd="/",
            stdout=subprocess.DEVNULL,
        )


def can_connect(port: int, password: str) -> bool:
    try:
        with psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres"
        ):
            return True
    except psycopg.OperationalError:
        return False


@pytest.mark.slow
def test_a_kept_cluster_takes_the_password_of_the_new_stack(data_directory: Path) -> None:
    user = service_user()
    cluster = initialise(data_directory, "first", user)
    with running(cluster, user) as port:
        assert can_connect(port, "first")
        assert not can_connect(port, "wrong")
    assert initialise(data_directory, "sec'ond", user) == cluster
    with running(cluster, user) as port:
        assert can_connect(port, "sec'ond")
        assert not can_connect(port, "first")


@pytest.mark.slow
def test_an_initdb_that_was_killed_halfway_leaves_no_cluster(data_directory: Path) -> None:
    user = service_user()
    half_made = data_directory / "unfinished" / "base"
    half_made.mkdir(parents=True)
    (data_directory / "unfinished" / "PG_VERSION").write_text("18")
    with running(initialise(data_directory, "first", user), user) as port:
        assert can_connect(port, "first")


def test_the_databases_owner_is_no_superuser_and_alone_may_connect(
    postgres_server: PostgresServer,
) -> None:
    database = role = "platform_test"
    for password in ("one", "two"):
        ensure_database(postgres_server.url, database, role, password)
        with psycopg.connect(postgres_server.url_for(role, database, password)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS mine (id int)")
            assert connection.execute(
                "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = %s",
                [role],
            ).fetchone() == (False, False, False)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.url_for(role, database, "one"))
    with psycopg.connect(postgres_server.url) as connection:
        (acl,) = connection.execute(
            "SELECT datacl::text FROM pg_database WHERE datname = %s", [database]
        ).fetchone() or ("",)
    assert "{=" not in acl
    postgres_server.drop_database(database)
