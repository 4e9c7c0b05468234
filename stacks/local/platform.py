"""The local platform: everything a stack needs as processes on loopback."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi

from alerts.configuration import (
    AlertmanagerSettings,
    PrometheusSettings,
    ScrapeTarget,
    alertmanager_configuration,
    prometheus_configuration,
    rule_files,
)
from stacks.local.binaries import postgres_program, valkey_server
from stacks.local.data_directory import DataDirectory
from stacks.local.identity import service_user
from stacks.local.layout import Layout
from stacks.local.password import Password
from stacks.local.ports import Ports
from stacks.local.postgres_cluster import SUPERUSER, PostgresCluster
from stacks.local.postgres_database import PostgresDatabase
from stacks.local.service import Readiness, Service, ServiceArgs
from stacks.local.step import LocalStep
from stacks.local.supervisor_process import SupervisorProcess
from stacks.platform import (
    DATABASE_URL,
    LOG_FORMAT,
    REDIS_URL,
    PeriodicSpec,
    ServiceSpec,
    StepSpec,
)
from stacks.settings import (
    LOOPBACK,
    ExternalGrafanaSettings,
    GrafanaSettings,
    LocalSettings,
    MonitoringSettings,
)

DATABASE = "learning_platform"
ROLE = "learning_platform"

_PORTS = (
    "alertmanager",
    "complexity",
    "exporter",
    "fsrs-optimization",
    "postgres",
    "prometheus",
    "receiver",
    "scheduler",
    "valkey",
)

_POSTGRES_SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 100
password_encryption = 'scram-sha-256'
shared_buffers = '256MB'
maintenance_work_mem = '128MB'
max_wal_size = '2GB'
wal_compression = on
max_locks_per_transaction = 256
log_min_duration_statement = '1s'
log_line_prefix = '%m [%p] %q%u@%d '
cluster_name = '{cluster}'
hba_file = '{directory}/pg_hba.conf'
"""

_POSTGRES_ACCESS = """\
# TYPE  DATABASE  USER  ADDRESS       METHOD
host    all       all   127.0.0.1/32  scram-sha-256
"""

_VALKEY_SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {directory}
appendonly yes
appendfsync everysec
save ""
# BullMQ demands it: an evicted key is a lost job.
maxmemory-policy noeviction
set-proc-title no
"""


@dataclass(frozen=True)
class LocalPlatformArgs:
    """What the local platform is told.

    `root` is the checkout, `stack` the name of the stack.
    """

    root: Path
    stack: str
    settings: LocalSettings
    monitoring: MonitoringSettings
    grafana: GrafanaSettings | None = None


class LocalPlatform(pulumi.ComponentResource):
    """Postgres, Valkey, Prometheus, Alertmanager and our processes, kept by supervisor."""

    def __init__(
        self, name: str, args: LocalPlatformArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:local:Platform", name, None, opts)
        self._name = name
        self._args = args
        self._layout = Layout(args.root, args.stack)
        self._ports = Ports(
            f"{name}-ports",
            list(_PORTS),
            args.settings.ports.model_dump(exclude_none=True),
            self._options(),
        )
        self._supervisor = SupervisorProcess(
            f"{name}-supervisor", self._layout.directory, self._options()
        )
        self._postgres = self._declare_postgres()
        self._declare_valkey()
        self._targets: dict[str, pulumi.Output[int]] = {}
        self._services: list[pulumi.Resource] = []
        self.register_outputs(self.outputs())

    @property
    def database_url(self) -> pulumi.Output[str]:
        """The URL of the application's database, for the role that owns it."""
        return self._database_url

    @property
    def redis_url(self) -> pulumi.Output[str]:
        """The URL of Valkey."""
        return self._redis_url

    @property
    def workers_role(self) -> str | None:
        """None: steps and services log in as the owner, whose password is of this machine alone."""
        return None

    def step(self, name: str, spec: StepSpec, after: Sequence[pulumi.Resource]) -> LocalStep:
        """Declare a step; destroying the stack does not take it back, its data goes or stays."""
        return LocalStep(
            f"{self._name}-{name}",
            name,
            spec,
            root=self._args.root,
            directory=self._layout.directory,
            database_url=self._database_url,
            opts=self._options(depends_on=[self._database, *after], deleted_with=self._postgres),
        )

    def result(self, step: pulumi.Resource) -> pulumi.Output[dict[str, Any]]:
        """Return what the step's command printed at its end."""
        assert isinstance(step, LocalStep)  # noqa: S101, narrows the type
        return step.result

    def service(self, name: str, spec: ServiceSpec, after: Sequence[pulumi.Resource]) -> Service:
        """Declare one of our processes; it is scraped under its name."""
        port = self._ports[name]
        service = self._run(
            name,
            ServiceArgs(
                supervisor=self._supervisor.directory,
                directory=self._args.root,
                command=(sys.executable, *spec.command),
                environment={
                    **spec.environment,
                    DATABASE_URL: self._database_url,
                    REDIS_URL: self._redis_url,
                    LOG_FORMAT: "console",
                    "METRICS_HOST": "127.0.0.1",
                    "METRICS_PORT": pulumi.Output.format("{}", port),
                },
                readiness=Readiness(
                    "http", pulumi.Output.format("http://127.0.0.1:{}/readyz", port)
                ),
                source=digest_of_packages(
                    *(self._args.root / package for package in spec.packages)
                ),
                stop_seconds=spec.stop_seconds,
            ),
            after=after,
        )
        self._targets[name] = port
        self._services.append(service)
        return service

    def periodic(self, name: str, spec: PeriodicSpec, after: Sequence[pulumi.Resource]) -> None:
        """Declare nothing: a stack on a desk has no clock, what is due is run by hand."""

    def monitoring(self) -> None:
        """Declare Prometheus, Alertmanager, and the receiver of alerts where none is configured."""
        webhook = self._declare_webhook()
        alertmanager = self._declare_alertmanager(webhook)
        prometheus = self._declare_prometheus(alertmanager)
        self._declare_grafana(prometheus)

    def outputs(self) -> dict[str, pulumi.Input[object]]:
        """Return the addresses of what runs."""
        return {
            "prometheus_url": self._url("prometheus"),
            "alertmanager_url": self._url("alertmanager"),
            "metrics_urls": {
                name: pulumi.Output.concat(self._url(name), "/metrics") for name in self._targets
            },
        }

    def _options(
        self,
        depends_on: Sequence[pulumi.Resource] = (),
        deleted_with: pulumi.Resource | None = None,
    ) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self, depends_on=list(depends_on), deleted_with=deleted_with
        )

    def _url(self, service: str) -> pulumi.Output[str]:
        return pulumi.Output.format("http://127.0.0.1:{}", self._ports[service])

    def _data(self, service: str, owner: str | None = None) -> DataDirectory:
        return DataDirectory(
            f"{self._name}-{service}-data",
            self._layout.data(service),
            keep=self._args.settings.keep_data,
            owner=owner,
            opts=self._options(),
        )

    def _run(
        self, service: str, args: ServiceArgs, after: Sequence[pulumi.Resource] = ()
    ) -> Service:
        return Service(
            f"{self._name}-{service}",
            service,
            args,
            self._options(depends_on=[self._supervisor, *after]),
        )

    def _declare_postgres(self) -> Service:
        user = service_user()
        data = self._data("postgres", owner=user)
        superuser_password = Password(f"{self._name}-postgres-password", self._options())
        role_password = Password(f"{self._name}-database-password", self._options())
        port = self._ports["postgres"]
        cluster = PostgresCluster(
            f"{self._name}-postgres-cluster",
            directory=data.path,
            password=superuser_password.value,
            user=user,
            opts=self._options(),
        )
        administrator_url = _postgres_url(SUPERUSER, superuser_password.value, port, "postgres")
        directory = self._layout.service("postgres")
        service = self._run(
            "postgres",
            ServiceArgs(
                supervisor=self._supervisor.directory,
                directory=directory,
                command=(
                    str(postgres_program("postgres")),
                    "-D",
                    cluster.cluster,
                    "-c",
                    f"config_file={directory}/postgresql.conf",
                ),
                files={
                    "postgresql.conf": port.apply(
                        lambda number: _POSTGRES_SETTINGS.format(
                            port=number, directory=directory, cluster=self._args.stack
                        )
                    ),
                    "pg_hba.conf": _POSTGRES_ACCESS,
                },
                readiness=Readiness("postgres", administrator_url),
                # A fast shutdown: clients are sent away, the data is checkpointed.
                stop_signal="INT",
                stop_seconds=60,
                user=user,
            ),
        )
        self._database = PostgresDatabase(
            f"{self._name}-database",
            administrator_url=administrator_url,
            database=DATABASE,
            role=ROLE,
            password=role_password.value,
            opts=self._options(depends_on=[service], deleted_with=service),
        )
        self._database_url = _postgres_url(ROLE, role_password.value, port, DATABASE)
        return service

    def _declare_valkey(self) -> None:
        data = self._data("valkey")
        password = Password(f"{self._name}-valkey-password", self._options())
        port = self._ports["valkey"]
        self._redis_url = pulumi.Output.format("redis://:{}@127.0.0.1:{}/0", password.value, port)
        directory = self._layout.service("valkey")
        self._valkey = self._run(
            "valkey",
            ServiceArgs(
                supervisor=self._supervisor.directory,
                directory=directory,
                command=(str(valkey_server()), f"{directory}/valkey.conf"),
                files={
                    "valkey.conf": pulumi.Output.all(port, password.value, data.path).apply(
                        lambda values: _VALKEY_SETTINGS.format(
                            port=values[0], password=values[1], directory=values[2]
                        )
                    )
                },
                readiness=Readiness("valkey", self._redis_url),
            ),
        )

    def _declare_webhook(self) -> pulumi.Input[str]:
        if self._args.monitoring.webhook_url is not None:
            return pulumi.Output.secret(self._args.monitoring.webhook_url.get_secret_value())
        port = self._ports["receiver"]
        self._run(
            "receiver",
            ServiceArgs(
                supervisor=self._supervisor.directory,
                directory=self._args.root,
                command=(sys.executable, "-m", "alerts", "receiver"),
                environment={
                    "RECEIVER_HOST": "127.0.0.1",
                    "RECEIVER_PORT": pulumi.Output.format("{}", port),
                    "RECEIVER_LOG": str(self._layout.directory / "alerts.jsonl"),
                },
                readiness=Readiness(
                    "http", pulumi.Output.concat(self._url("receiver"), "/healthz")
                ),
                source=digest_of_packages(self._args.root / "alerts"),
            ),
        )
        return pulumi.Output.concat(self._url("receiver"), "/")

    def _declare_alertmanager(self, webhook: pulumi.Input[str]) -> Service:
        data = self._data("alertmanager")
        directory = self._layout.service("alertmanager")
        url = self._args.monitoring.heartbeat_url
        heartbeat = None if url is None else pulumi.Output.secret(url.get_secret_value())
        return self._run(
            "alertmanager",
            ServiceArgs(
                supervisor=self._supervisor.directory,
                directory=directory,
                command=(
                    self._tool("alertmanager"),
                    f"--config.file={directory}/alertmanager.yml",
                    pulumi.Output.format("--storage.path={}", data.path),
                    pulumi.Output.format(
                        "--web.listen-address=127.0.0.1:{}", self._ports["alertmanager"]
                    ),
                    "--cluster.listen-address=",
                ),
                files={
                    "webhook.url": webhook,
                    **({"heartbeat.url": heartbeat} if heartbeat is not None else {}),
                    "alertmanager.yml": alertmanager_configuration(
                        AlertmanagerSettings(
                            webhook_url_file=directory / "webhook.url",
                            heartbeat_url_file=(
                                directory / "heartbeat.url" if heartbeat is not None else None
                            ),
                        )
                    ),
                },
                readiness=Readiness(
                    "http", pulumi.Output.concat(self._url("alertmanager"), "/-/ready")
                ),
            ),
        )

    def _declare_prometheus(self, alertmanager: Service) -> Service:
        data = self._data("prometheus")
        directory = self._layout.service("prometheus")
        targets = {
            **self._targets,
            "alertmanager": self._ports["alertmanager"],
            "prometheus": self._ports["prometheus"],
        }

        def configuration(ports: Mapping[str, int]) -> str:
            return prometheus_configuration(
                PrometheusSettings(
                    scrape_seconds=self._args.monitoring.scrape_seconds,
                    targets=tuple(
                        ScrapeTarget(job=job, address=f"127.0.0.1:{port}")
                        for job, port in ports.items()
                    ),
                    alertmanagers=(f"127.0.0.1:{ports['alertmanager']}",),
                    rule_files=("*.rules.yaml",),
                    external_labels={"stack": self._args.stack},
                )
            )

        return self._run(
            "prometheus",
            ServiceArgs(
                supervisor=self._supervisor.directory,
                directory=directory,
                command=(
                    self._tool("prometheus"),
                    f"--config.file={directory}/prometheus.yml",
                    pulumi.Output.format("--storage.tsdb.path={}", data.path),
                    f"--storage.tsdb.retention.time={self._args.monitoring.retention_days}d",
                    pulumi.Output.format(
                        "--web.listen-address=127.0.0.1:{}", self._ports["prometheus"]
                    ),
                ),
                files={
                    "prometheus.yml": pulumi.Output.all(**targets).apply(configuration),
                    **{
                        f"{path.stem}.rules.yaml": path.read_text(encoding="utf-8")
                        for path in rule_files()
                    },
                },
                readiness=Readiness(
                    "http", pulumi.Output.concat(self._url("prometheus"), "/-/ready")
                ),
            ),
            after=[alertmanager, *self._services],
        )

    def _declare_grafana(self, prometheus: Service) -> None:
        """Declare what the stack has in a Grafana, where one is configured."""
        settings = self._args.grafana
        if not isinstance(settings, ExternalGrafanaSettings):
            return
        # Imported where there is one: its SDK takes its time.
        from stacks.grafana import external_grafana

        external_grafana(
            f"{self._name}-grafana",
            self._args.stack,
            settings,
            self._args.monitoring,
            aws=False,
            opts=self._options(depends_on=[prometheus]),
            prometheus_url=self._url("prometheus") if settings.url.host in LOOPBACK else None,
        )

    def _tool(self, name: str) -> str:
        path = self._args.root / ".tools" / "bin" / name
        if not os.access(path, os.X_OK):
            raise pulumi.RunError(f"{name} is missing: run `make tools`")
        return str(path)


def _postgres_url(
    role: str, password: pulumi.Input[str], port: pulumi.Input[int], database: str
) -> pulumi.Output[str]:
    return pulumi.Output.format(
        "postgresql://{}:{}@127.0.0.1:{}/{}", role, password, port, database
    )


def digest_of_packages(*directories: Path) -> str:
    """Return a digest of the packages' source, so that changed code restarts what runs it."""
    digest = hashlib.sha256()
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.suffix in (".py", ".sql", ".lua", ".yaml"):
                digest.update(str(path.relative_to(directory)).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
