"""The server that is measured on: settings as in production, and fresh copies of the source."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
import psycopg
from psycopg import sql

from bench import partitioning_data
from stacks.local.identity import let_through
from tests import servers
from tests.servers import PostgresServer, running_postgres

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "shared_buffers": "2GB",
    "maintenance_work_mem": "256MB",
    "work_mem": "16MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "15min",
}
"""As for a server of 8 GB, autovacuum and all else as they come."""

_DEBIAN = Path(__file__).resolve().parent.parent / ".local" / "debian"
_PACKAGES = ("postgresql-15", "postgresql-client-15", "postgresql-15-partman")


@contextlib.contextmanager
def embedded() -> Iterator[PostgresServer]:
    """Run the Postgres of the wheel."""
    with running_postgres(**SETTINGS) as server:
        yield server


@contextlib.contextmanager
def distribution() -> Iterator[PostgresServer]:
    """Run Debian's Postgres 15, with its pg_partman; both are unpacked, nothing is installed.

    Raises RuntimeError where the packages cannot be had.
    """
    programs = _unpacked() / "usr" / "lib" / "postgresql" / "15" / "bin"

    def program(name: str) -> Path:
        return programs / name

    let_through(programs / "postgres")
    with (
        mock.patch.object(servers, "postgres_program", program),
        running_postgres(**SETTINGS) as server,
    ):
        yield server


def _unpacked() -> Path:
    root = _DEBIAN / "postgresql-15"
    if not (
        root / "usr" / "share" / "postgresql" / "15" / "extension" / "pg_partman.control"
    ).exists():
        downloads = _DEBIAN / "downloads"
        downloads.mkdir(parents=True, exist_ok=True)
        for package in _PACKAGES:
            _run(["apt-get", "download", package], downloads)
        for file in sorted(downloads.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(file), str(root)], downloads)
    return root


def _run(command: list[str], directory: Path) -> None:
    completed = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if completed.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {completed.stderr.strip()[-500:]}")


def database_url(server: PostgresServer, name: str) -> str:
    return server.url_for("postgres", name, server.password)


def create_source(
    server: PostgresServer,
    name: str,
    rows: int,
    *,
    foreign_keys: bool = False,
    shuffled: bool = False,
) -> None:
    """Create a database with the table to be partitioned."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = database_url(server, name)
    partitioning_data.create(url, rows, foreign_keys=foreign_keys, shuffled=shuffled)


@contextlib.contextmanager
def fresh_copy(server: PostgresServer, source: str, name: str = "copy") -> Iterator[str]:
    """Copy a database, flush everything to disk, and yield the copy's URL; drop it afterwards."""
    copy = sql.Identifier(f"{source}_{name}")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(copy))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                copy, sql.Identifier(source)
            )
        )
        url = database_url(server, f"{source}_{name}")
        with psycopg.connect(url, autocommit=True) as warm:
            warm.execute("SELECT count(*), max(pg_column_size(review_logs)) FROM review_logs")
        os.sync()
        connection.execute("CHECKPOINT")
        try:
            yield url
        finally:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(copy))


def cpu_seconds(server: PostgresServer) -> float:
    """Return the processor time that the server used so far, sessions that ended included."""
    pid = int((server.data_directory / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    times = postmaster.cpu_times()
    total = times.children_user + times.children_system
    for child in postmaster.children():
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            total += times.user + times.system
    return total


def machine(server: PostgresServer) -> str:
    """Describe machine and server in one line."""
    with psycopg.connect(server.url) as connection:
        version = connection.info.parameter_status("server_version")
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({cpu[1] if cpu else platform.processor()}), {memory:.0f} GB, "
        f"{platform.system()} {platform.release()}, Postgres {version}; load "
        + " ".join(f"{load:.1f}" for load in os.getloadavg())
    )


def program(name: str) -> str:
    """Return a client program of the wheel, such as pgbench."""
    found = servers.postgres_program(name)
    let_through(found)
    return str(found) if found.exists() else str(shutil.which(name))
