"""Real servers for tests: Postgres and Valkey from their wheels, on loopback, thrown away."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import valkey
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from valkey.exceptions import ConnectionError as ValkeyConnectionError

from stacks.local.binaries import postgres_program, valkey_server
from stacks.local.identity import let_through, run_as, service_user


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_service_user() -> str | None:
    # Postgres refuses to run as root.
    user = service_user()
    if user is not None:
        let_through(postgres_program("postgres"))
    return user


@dataclass(frozen=True)
class Installation:
    """Where the programs of another Postgres than the wheel's lie, and what they run in."""

    programs: Path
    environment: dict[str, str] | None = None
    """None is ours."""


@dataclass
class PostgresServer:
    """A Postgres cluster of its own; `url` connects as superuser."""

    directory: Path
    port: int
    password: str
    user: str | None
    installation: Installation | None = None
    """None is the wheel's."""

    @property
    def data_directory(self) -> Path:
        return self.directory / "data"

    @property
    def url(self) -> str:
        return self.url_for("postgres", "postgres", self.password)

    def url_for(self, role: str, database: str, password: str) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def _program(self, name: str) -> Path:
        if self.installation is None:
            return postgres_program(name)
        return self.installation.programs / name

    def _run(self, program: str, *arguments: str) -> None:
        output = self.directory / "commands.log"
        with output.open("ab") as log:
            completed = subprocess.run(
                [str(self._program(program)), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.installation.environment if self.installation else None,
                **run_as(self.user),
                cwd=self.directory,
            )
        if completed.returncode:
            raise RuntimeError(f"{program} failed:\n{output.read_text()[-4000:]}")

    def initialise(self, options: dict[str, str]) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        if self.user:
            for path in (self.directory, password_file):
                shutil.chown(path, self.user)
        self._run(
            "initdb",
            *("-D", str(self.data_directory), "-U", "postgres", "--encoding=UTF8", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={password_file}"),
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "256MB",
            "fsync": "off",
            **options,
        }
        with (self.data_directory / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in settings.items())

    def start(self) -> None:
        log = str(self.directory / "server.log")
        self._run("pg_ctl", "-D", str(self.data_directory), "-w", "-t", "60", "-l", log, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; mode `immediate` is a crash: recovery at the next start."""
        self._run("pg_ctl", "-D", str(self.data_directory), "-w", "-m", mode, "stop")

    def create_database(self, sees_statistics: bool = True) -> tuple[str, str]:
        """Create a database and a role that owns it; return its name and URL.

        The role may do no more than that, but see what other sessions do, as `migrations roles`
        lets the steps' role; not with `sees_statistics` false.
        """
        name = f"test_{secrets.token_hex(6)}"
        password = secrets.token_urlsafe(16)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), password)
            )
            connection.execute(
                sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name))
            )
            if sees_statistics:
                connection.execute(
                    sql.SQL("GRANT pg_read_all_stats TO {}").format(sql.Identifier(name))
                )
        return name, self.url_for(name, name, password)

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            identifier = sql.Identifier(name)
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier)
            )
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(identifier))


@contextlib.contextmanager
def running_postgres(**options: str) -> Iterator[PostgresServer]:
    """Run a Postgres with the given server settings on top of the test defaults."""
    with _running(None, options) as server:
        yield server


@contextlib.contextmanager
def running_installation(installation: Installation, **options: str) -> Iterator[PostgresServer]:
    """Run another Postgres than the wheel's, with server settings as for `running_postgres`."""
    with _running(installation, options) as server:
        yield server


@contextlib.contextmanager
def _running(
    installation: Installation | None, options: dict[str, str]
) -> Iterator[PostgresServer]:
    directory = Path(tempfile.mkdtemp(prefix="test-postgres-"))
    directory.chmod(0o755)
    user = _as_service_user()
    if user is not None and installation is not None:
        let_through(installation.programs / "postgres")
    password = secrets.token_urlsafe(16)
    server = PostgresServer(directory, free_port(), password, user, installation)
    try:
        server.initialise(options)
        server.start()
        yield server
    finally:
        with contextlib.suppress(RuntimeError):
            server.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class PgBouncer:
    """A pool of connections to a Postgres, in transaction mode: a server connection a transaction.

    Who connects needs the password of a role, and no prepared statements: those are a session's.
    """

    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    def url_for(self, url: str) -> str:
        """Return the URL through the pool of what `url` leads to."""
        given = conninfo_to_dict(url)
        place = f"127.0.0.1:{self.port}/{given['dbname']}"
        return f"postgresql://{given['user']}:{given['password']}@{place}"

    @property
    def log(self) -> str:
        return (self.directory / "pgbouncer.log").read_text()


@contextlib.contextmanager
def running_pgbouncer(
    program: Path, environment: dict[str, str], url: str, pool_size: int
) -> Iterator[PgBouncer]:
    """Run pgbouncer before the database of `url`, with so many connections to it.

    The role of `url` is let in, and may ask the pool's own database `pgbouncer` for statistics.
    """
    directory = Path(tempfile.mkdtemp(prefix="test-pgbouncer-"))
    given, port, user = conninfo_to_dict(url), free_port(), _as_service_user()
    let_through(program)
    (directory / "users").write_text(f'"{given["user"]}" "{given["password"]}"\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n{given['dbname']} = host=127.0.0.1 port={given['port']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {directory / 'users'}\n"
        f"stats_users = {given['user']}\npool_mode = transaction\n"
        f"default_pool_size = {pool_size}\nmax_client_conn = 100\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    if user is not None:
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, user)
    with (directory / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), str(directory / "pgbouncer.ini")],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=directory,
            **run_as(user),
        )
    pool = PgBouncer(directory, port, process)
    try:
        _wait_until_open(pool)
        yield pool
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)


def _wait_until_open(pool: PgBouncer) -> None:
    deadline = time.monotonic() + 20
    while True:
        if pool.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"pgbouncer did not start:\n{pool.log[-4000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", pool.port), 1):
            return
        time.sleep(0.02)


@dataclass
class ValkeyServer:
    """A Valkey with a password and the settings BullMQ demands."""

    directory: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def client(self) -> valkey.Valkey:
        return valkey.Valkey.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        configuration = self.directory / "valkey.conf"
        configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\ndir {self.directory}\n"
            'maxmemory-policy noeviction\nappendonly yes\nsave ""\n'
        )
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(valkey_server()), str(configuration)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client().ping()
            except ValkeyConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self, kill: bool = False) -> None:
        if self.process is None:
            return
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(20)
        self.process = None


@contextlib.contextmanager
def running_valkey() -> Iterator[ValkeyServer]:
    directory = Path(tempfile.mkdtemp(prefix="test-valkey-"))
    server = ValkeyServer(directory, free_port(), secrets.token_urlsafe(16))
    try:
        server.start()
        yield server
    finally:
        server.stop(kill=True)
        shutil.rmtree(directory, ignore_errors=True)
