"""The data directory of Postgres: `initdb`, and the superuser's password."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from stacks.local.binaries import postgres_program
from stacks.local.identity import let_through, run_as
from stacks.local.postgres_database import set_password

SUPERUSER = "postgres"


def initialise(directory: Path, password: str, user: str | None) -> Path:
    """Make a cluster below `directory`, or give the one that is there the password.

    Returns the cluster's own directory. Must not be called while a server runs on it.
    Raises RuntimeError with what the programs of Postgres printed.
    """
    if user is not None:
        let_through(postgres_program("initdb"))
    cluster = directory / "cluster"
    if cluster.exists():
        _set_password_of_stopped_cluster(cluster, password, user)
        return cluster
    # Renamed when it is whole: an initdb that was killed halfway leaves no cluster.
    unfinished = directory / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    descriptor, password_file = tempfile.mkstemp(prefix="initdb-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(password)
        if user is not None:
            # Only initdb, as that user, reads it.
            shutil.chown(password_file, user)
        _run(
            [
                str(postgres_program("initdb")),
                *("-D", str(unfinished), "-U", SUPERUSER, "--encoding=UTF8", "--locale=C.UTF-8"),
                *("--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"),
                "--data-checksums",
            ],
            user,
        )
    finally:
        Path(password_file).unlink(missing_ok=True)
    return unfinished.rename(cluster)


def _set_password_of_stopped_cluster(directory: Path, password: str, user: str | None) -> None:
    from psycopg import sql

    statement = (
        sql.SQL("ALTER ROLE {} PASSWORD {}")
        .format(sql.Identifier(SUPERUSER), sql.Literal(password))
        .as_string()
    )
    # Single-user mode: the password of before is unknown once its resource is gone.
    _run(
        [
            str(postgres_program("postgres")),
            *("--single", "-D", str(directory)),
            *("-c", "password_encryption=scram-sha-256", "-c", "log_statement=none", "postgres"),
        ],
        user,
        statement + "\n",
    )


def _run(command: list[str], user: str | None, statement: str = "") -> None:
    completed = subprocess.run(
        command,
        input=statement,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **run_as(user),
        cwd="/",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    if completed.returncode:
        raise RuntimeError(
            f"{Path(command[0]).name} failed with exit code {completed.returncode}: "
            f"{completed.stdout[-2000:]}"
        )


class _PostgresClusterProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        moved = _olds.get("directory") != _news.get("directory")
        return DiffResult(
            changes=moved or _olds.get("password") != _news.get("password"),
            replaces=["directory"] if moved else [],
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        cluster = initialise(Path(props["directory"]), props["password"], props["user"] or None)
        return CreateResult(str(cluster), {**props, "cluster": str(cluster)})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        outputs = {**_news, "cluster": _olds["cluster"]}
        postmaster = Path(_olds["cluster"]) / "postmaster.pid"
        if not postmaster.exists():
            initialise(Path(_news["directory"]), _news["password"], _news["user"] or None)
            return UpdateResult(outputs)
        port = postmaster.read_text().splitlines()[3]
        url = f"postgresql://{SUPERUSER}:{_olds['password']}@127.0.0.1:{port}/postgres"
        set_password(url, SUPERUSER, _news["password"])
        return UpdateResult(outputs)


class PostgresCluster(Resource, module="local", name="PostgresCluster"):
    """An initialised cluster below `directory`, whose superuser has `password`."""

    cluster: pulumi.Output[str]
    """The cluster's own directory, as `postgres -D` takes it."""

    def __init__(
        self,
        name: str,
        *,
        directory: pulumi.Input[str],
        password: pulumi.Input[str],
        user: str | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            _PostgresClusterProvider(),
            name,
            {
                "directory": directory,
                "password": pulumi.Output.secret(password),
                "user": user or "",
                "cluster": None,
            },
            pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions(additional_secret_outputs=["password"]), opts
            ),
        )
