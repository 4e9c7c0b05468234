"""The disk full in mid-backfill: said so, nothing lost, and finished once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql

from tests.migrations.partition import application, chaos
from tests.migrations.partition.chaos import Operator, PersistentWriters, Result
from tests.servers import PostgresServer

pytestmark = pytest.mark.slow


@dataclass
class SmallDisk:
    """A file system in memory, of a size that can be changed."""

    path: Path

    def resize(self, megabytes: int, *options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={megabytes}m", *options])]
        subprocess.run([*command, "tmpfs", str(self.path)], check=True, capture_output=True)

    def close(self) -> None:
        subprocess.run(["umount", str(self.path)], check=False, capture_output=True)
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_bsize


@pytest.fixture
def small_disk(postgres_server: PostgresServer) -> Iterator[SmallDisk]:
    disk = SmallDisk(Path(tempfile.mkdtemp(prefix="test-small-disk-")))
    try:
        disk.resize(6)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(disk.path, ignore_errors=True)
        pytest.skip(f"mounting a file system of limited size takes root here: {error}")
    try:
        if postgres_server.user:
            shutil.chown(disk.path, postgres_server.user)
        disk.path.chmod(0o700)
        yield disk
    finally:
        disk.close()


@pytest.fixture
def small_tablespace(
    small_disk: SmallDisk, database_url: str, postgres_server: PostgresServer
) -> Iterator[SmallDisk]:
    """A tablespace on the small disk, where whatever the role of the test creates goes."""
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        with psycopg.connect(database_url) as connection:
            role = sql.Identifier(connection.info.user)
        admin.execute(
            sql.SQL("CREATE TABLESPACE small OWNER {} LOCATION {}").format(
                role, str(small_disk.path)
            )
        )
        try:
            yield small_disk
        finally:
            with psycopg.connect(database_url, autocommit=True) as connection:
                # Nothing may be left in it.
                connection.execute("DROP SCHEMA IF EXISTS partitioning CASCADE")
                connection.execute("DROP SCHEMA public CASCADE")
            admin.execute("DROP TABLESPACE small")


def operate(url: str, directory: Path, command: str) -> Result:
    arguments = [command, f"--spec={directory / 'spec.toml'}", "--attempts=400"]
    return Operator(url, directory / "output", arguments).result()


def test_a_full_disk_stops_the_backfill_and_the_next_run_goes_on_when_there_is_room(
    small_tablespace: SmallDisk, database_url: str, tmp_path: Path
) -> None:
    application.create(database_url, rows=40_000, days=150)
    application.write_spec(tmp_path / "spec.toml")
    with psycopg.connect(database_url, autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET default_tablespace = small").format(database)
        )
    # What mirrors a write needs room as the write itself does: writers are refused meanwhile, with
    # the error of a full disk and no other, and what they were told is done is done in both tables.
    with (
        PersistentWriters(database_url, seed=31, tolerated=(errors.DiskFull,)) as writers,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        writers.far_months = False
        writers.may_be_partitioned = True
        for command in ("prepare", "sync"):
            result = operate(database_url, tmp_path, command)
            assert result.code == 0, result.shown
        for megabytes in (6, 8):
            small_tablespace.resize(megabytes, "remount")
            result = operate(database_url, tmp_path, "backfill")
            assert result.code == 1, result.shown
            assert result.values["outcome"] == "failed"
            assert "the database's disk is full" in result.message
            assert "make room, and run it again" in result.message
            chaos.wait_until_gone(connection)
            full = chaos.expect_consistent(connection)
            assert full.phase == "sync"
        small_tablespace.resize(64, "remount")
        result = operate(database_url, tmp_path, "backfill")
        assert result.code == 0, result.shown
        now = chaos.expect_consistent(connection)
        assert full.complete.items() <= now.complete.items()
        writers.wait_for(20)
        for command in ("verify", "cutover", "rollback", "verify", "cutover"):
            result = operate(database_url, tmp_path, command)
            assert result.code == 0, result.shown
            writers.wait_for(10)
            chaos.expect_consistent(connection)
    assert writers.errors == []
    print(f"writers refused {writers.refused} times; months live when full: {len(full.complete)}")
    result = operate(database_url, tmp_path, "retire")
    assert result.values["verified"], result.shown
