"""The settings of a stack: `Pulumi.<stack>.yaml` as one typed, validated model.

Keys of the project's own namespace (`learning-platform:partitioning`) and of the namespace `local`
(`local:keepData`) are known; a wrong or unknown one is refused before any resource is declared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from workers import cron

PROJECT = "learning-platform"

PHASES = ("none", "schema", "prepare", "sync", "backfill", "verify", "cutover", "retire")
"""How far the database steps may go, in order; `none` leaves the database alone."""


LOOPBACK = ("127.0.0.1", "localhost")

SECRET_KEYS = frozenset({"heartbeatUrl", "token", "webhookUrl"})
"""Keys whose values no message shows."""


class SettingsError(Exception):
    """The configuration is not valid; the message names each key, what it got and what it takes."""


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
    )


class PartitioningSettings(_Section):
    """How far and how fast the online partitioning goes."""

    phase: Literal["none", "schema", "prepare", "sync", "backfill", "verify", "cutover", "retire"]
    spec: Path = Path("migrations/review_logs.toml")
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    lock_timeout_milliseconds: Annotated[int, Field(ge=1, le=10_000)] = 500
    lock_attempts: Annotated[int, Field(ge=1, le=1_000)] = 60
    hold_days: Annotated[float, Field(ge=0)] = 0


class SimulatedHistorySettings(_Section):
    """Simulated learners; the same seed and size give the same rows."""

    source: Literal["simulated"]
    actors: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    reviews: Annotated[int, Field(ge=1, le=1_000_000_000)] = 200_000
    months: Annotated[int, Field(ge=1, le=240)] = 18
    seed: Annotated[int, Field(ge=0)] = 1


class AnkiHistorySettings(_Section):
    """An Anki export: a CSV of the table `revlog`, or `collection.anki2`."""

    source: Literal["anki"]
    path: Path


class NoHistorySettings(_Section):
    """Empty application tables."""

    source: Literal["none"]


HistorySettings = Annotated[
    SimulatedHistorySettings | AnkiHistorySettings | NoHistorySettings,
    Field(discriminator="source"),
]


class WorkersSettings(_Section):
    """How the queue workers run."""

    fsrs_concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    drain_seconds: Annotated[int, Field(ge=1, le=600)] = 30
    complexity_cron: Annotated[str, AfterValidator(cron.require_pattern)] = "0 * * * *"
    queue_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_{}-]+$")] = "bull"


class MonitoringSettings(_Section):
    """How metrics are scraped and where alerts go.

    `heartbeatUrl` is a dead man's switch: it raises the alarm when the Watchdog no longer comes.
    `storageClass` is for clusters that have one of their own.
    """

    scrape_seconds: Annotated[int, Field(ge=1, le=300)] = 5
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 15
    webhook_url: SecretStr | None = None
    heartbeat_url: SecretStr | None = None
    storage_class: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")] | None = None


class BundledGrafanaSettings(_Section):
    """The Grafana of kube-prometheus-stack, over TLS behind a load balancer inside the network.

    Only `clientCidrs` reach it, whoever runs Pulumi among them. With `zoneId`, a hosted zone of
    Route 53, `host` is made known there; without one that is done by hand. `ingressClass` is for
    clusters that have one of their own.
    """

    source: Literal["bundled"]
    host: Annotated[str, Field(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$")]
    certificate_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:.+$")]
    client_cidrs: Annotated[tuple[IPv4Network, ...], Field(min_length=1)]
    zone_id: Annotated[str, Field(pattern=r"^Z[A-Z0-9]+$")] | None = None
    ingress_class: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")] | None = None

    @field_validator("client_cidrs")
    @classmethod
    def _names_somebody(cls, cidrs: tuple[IPv4Network, ...]) -> tuple[IPv4Network, ...]:
        if any(block.prefixlen < 8 for block in cidrs):
            raise ValueError("takes networks of /8 or smaller")
        return cidrs


class ExternalGrafanaSettings(_Section):
    """A Grafana that is there already: Grafana Cloud, Amazon Managed Grafana, or one on a desk.

    `token` is that of a service account that may administrate folders, dashboards, data sources
    and, for `notificationPolicy`, alerting. `prometheusUrl` is where this Grafana reaches the
    stack's Prometheus; without it no data source is made, and the dashboards use one that is
    there. There is one notification policy in a Grafana: say so if it shall be ours.
    """

    source: Literal["external"]
    url: HttpUrl
    token: SecretStr
    prometheus_url: HttpUrl | None = None
    notification_policy: bool = False

    @field_validator("url")
    @classmethod
    def _hides_the_token(cls, url: HttpUrl) -> HttpUrl:
        if url.scheme != "https" and url.host not in LOOPBACK:
            raise ValueError("takes an https URL, for a token goes there")
        return url


GrafanaSettings = Annotated[
    BundledGrafanaSettings | ExternalGrafanaSettings, Field(discriminator="source")
]


class LocalPorts(_Section):
    """Ports to use on loopback; those not given are chosen among the free ones, once."""

    postgres: Annotated[int, Field(ge=1024, le=65535)] | None = None
    valkey: Annotated[int, Field(ge=1024, le=65535)] | None = None
    prometheus: Annotated[int, Field(ge=1024, le=65535)] | None = None
    alertmanager: Annotated[int, Field(ge=1024, le=65535)] | None = None


class LocalSettings(_Section):
    """What only the local platform needs."""

    keep_data: bool = True
    ports: LocalPorts = LocalPorts()


RoleArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$")]
SecurityGroupId = Annotated[str, Field(pattern=r"^sg-[0-9a-f]+$")]
AccountId = Annotated[str, Field(pattern=r"^\d{12}$")]
SubnetId = Annotated[str, Field(pattern=r"^subnet-[0-9a-f]+$")]


class ExistingNetworkSettings(_Section):
    """A network that this stack does not own: three private and three database subnets."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]+$")]
    private_subnet_ids: tuple[SubnetId, SubnetId, SubnetId]
    database_subnet_ids: tuple[SubnetId, SubnetId, SubnetId]


class ClusterSettings(_Section):
    """The Kubernetes cluster: a new one, or the name of an `existing` one.

    The API of a new one is reached from outside the network only from `publicCidrs`, within it by
    members of the security groups `clientGroups`.
    """

    existing: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")] | None = None
    version: Annotated[str, Field(pattern=r"^1\.\d{2}$")] = "1.35"
    administrators: tuple[RoleArn, ...] = ()
    public_cidrs: tuple[IPv4Network, ...] = ()
    client_groups: tuple[SecurityGroupId, ...] = ()


class DatabaseSettings(_Section):
    """RDS Postgres; what is not given is as stacks/aws/environments.py has it. Storage in GiB.

    Another `passwordGeneration` makes another master password; where there is no replica, RDS makes
    and rotates that itself. Another major version takes `applyImmediately` where the environment is
    durable. `snapshotReaders` are accounts that may copy snapshots shared with them.
    """

    # Parameters are set that are static before 18.
    version: Annotated[str, Field(pattern=r"^(1[89]|[2-9]\d)$")] = "18"
    apply_immediately: bool = False
    instance_class: Annotated[str, Field(pattern=r"^db\.\w+\.\w+$")] | None = None
    replica_class: Annotated[str, Field(pattern=r"^db\.\w+\.\w+$")] | None = None
    storage: Annotated[int, Field(ge=20, le=65_536)] | None = None
    storage_limit: Annotated[int, Field(ge=20, le=65_536)] | None = None
    password_generation: Annotated[int, Field(ge=1)] = 1
    restore_snapshot: Annotated[str, Field(min_length=1)] | None = None
    snapshot_readers: tuple[AccountId, ...] = ()


class QueueSettings(_Section):
    """ElastiCache Valkey; another `passwordGeneration` makes another password."""

    version: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = "8.2"
    node_type: Annotated[str, Field(pattern=r"^cache\.\w+\.\w+$")] | None = None
    password_generation: Annotated[int, Field(ge=1)] = 1


class ScalingSettings(_Section):
    """How many pods a worker has; what is not given is as stacks/aws/environments.py has it.

    There is one for each `jobsPerReplica` jobs of its queue, between `minimum` and `maximum`. With
    `pauseScaleIn` none is taken away, for a while of trouble.
    """

    minimum: Annotated[int, Field(ge=0, le=100)] | None = None
    maximum: Annotated[int, Field(ge=1, le=100)] | None = None
    jobs_per_replica: Annotated[int, Field(ge=1)] | None = None
    pause_scale_in: bool = False

    @model_validator(mode="after")
    def _agrees(self) -> ScalingSettings:
        if None not in (self.minimum, self.maximum) and (self.minimum or 0) > (self.maximum or 0):
            raise ValueError("takes a minimum that is not above the maximum")
        return self


class WorkersScalingSettings(_Section):
    """The scaling of each queue's workers."""

    fsrs_optimization: ScalingSettings = ScalingSettings()
    complexity: ScalingSettings = ScalingSettings()


class AwsSettings(_Section):
    """What only staging and prod need.

    `zones` are pinned, so that a zone AWS adds moves nothing. `image` is the digest of the image
    that all our pods run. `deletable` takes the protection off what holds data, for the update
    before a `destroy`.
    """

    environment: Literal["staging", "prod"]
    image: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    account_id: AccountId
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    zones: tuple[str, str, str]
    cidr: IPv4Network = IPv4Network("10.20.0.0/16")
    deletable: bool = False
    network: ExistingNetworkSettings | None = None
    cluster: ClusterSettings = ClusterSettings()
    database: DatabaseSettings = DatabaseSettings()
    queue: QueueSettings = QueueSettings()
    scaling: WorkersScalingSettings = WorkersScalingSettings()

    @field_validator("cidr")
    @classmethod
    def _fits_subnets(cls, cidr: IPv4Network) -> IPv4Network:
        if not (cidr.is_private and 16 <= cidr.prefixlen <= 20):
            raise ValueError("takes a private network from /16 to /20")
        return cidr

    @model_validator(mode="after")
    def _agrees(self) -> AwsSettings:
        if len(set(self.zones)) < 3 or any(zone[:-1] != self.region for zone in self.zones):
            raise ValueError(f"zones: takes three different zones of {self.region}")
        if (self.cluster.existing is None) != (self.network is None):
            raise ValueError("cluster.existing and network: take both or neither")
        if self.cluster.existing is None and not self.cluster.administrators:
            raise ValueError("cluster.administrators: takes at least one role, or nobody gets in")
        if self.cluster.existing is not None and self.cluster.client_groups:
            raise ValueError("cluster.clientGroups: is for a new cluster, not an existing one")
        if any(block.prefixlen < 8 for block in self.cluster.public_cidrs):
            raise ValueError("cluster.publicCidrs: takes networks of /8 or smaller")
        return self


class Settings(_Section):
    """Everything a stack can be told."""

    partitioning: PartitioningSettings = PartitioningSettings(phase="cutover")
    history: HistorySettings = NoHistorySettings(source="none")
    workers: WorkersSettings = WorkersSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    grafana: GrafanaSettings | None = None
    local: LocalSettings = LocalSettings()
    aws: AwsSettings | None = None


def read_settings(configuration: Mapping[str, str]) -> Settings:
    """Validate the configuration of a stack.

    `configuration` maps full keys (`learning-platform:partitioning`) to values as Pulumi hands them
    over: text, with JSON for structured ones.

    Raises SettingsError naming every wrong key.
    """
    values: dict[str, Any] = {}
    local: dict[str, Any] = {}
    problems: list[str] = []
    known = set(_keys(Settings)) - {"local"}
    known_local = set(_keys(LocalSettings))
    for full_key, text in sorted(configuration.items()):
        namespace, _, key = full_key.partition(":")
        if namespace == PROJECT and key in known:
            values[key] = _parsed(text)
        elif namespace == "local" and key in known_local:
            local[key] = _parsed(text)
        elif namespace in (PROJECT, "local"):
            names = sorted(known if namespace == PROJECT else known_local)
            problems.append(f"{full_key}: unknown key; known are {_keyed(namespace, names)}")
        # Other namespaces belong to Pulumi itself (pulumi:tags) or to providers (aws:region).
    if local:
        values["local"] = local
    settings = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems.extend(_explained(dict(detail)) for detail in error.errors())
    if problems or settings is None:
        raise SettingsError(
            "the configuration is not valid, nothing was changed:\n  " + "\n  ".join(problems)
        )
    for key in ("webhook_url", "heartbeat_url"):
        url: SecretStr | None = getattr(settings.monitoring, key)
        if url is not None:
            _require_url(f"monitoring.{to_camel(key)}", url)
    if isinstance(settings.grafana, BundledGrafanaSettings) and settings.aws is None:
        raise SettingsError(
            f"{PROJECT}:grafana.source: bundled comes with a cluster; a local stack takes external"
        )
    return settings


def require_no_placeholders(settings: Settings) -> None:
    """Refuse the values of the committed settings that only their user can know.

    Raises SettingsError naming each.
    """
    aws = settings.aws
    if aws is None:
        return
    texts = {
        "accountId": aws.account_id,
        "image": aws.image,
        "cluster.administrators": " ".join(aws.cluster.administrators),
    }
    left = [f"{PROJECT}:aws.{key}" for key, text in texts.items() if "0" * 12 in text]
    if left:
        raise SettingsError(f"{', '.join(left)}: still a placeholder; see docs/bootstrap.md")


def _keys(section: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]


def _keyed(namespace: str, names: list[str]) -> str:
    return ", ".join(f"{namespace}:{name}" for name in names)


def _parsed(text: str) -> Any:
    # Pulumi hands structured values, numbers and booleans over as JSON and strings as they are.
    try:
        return json.loads(text)
    except ValueError:
        return text


def _require_url(key: str, url: SecretStr) -> None:
    try:
        AnyHttpUrl(url.get_secret_value())
    except ValidationError:
        raise SettingsError(f"{PROJECT}:{key}: takes an http or https URL") from None


def _section_at(location: tuple[Any, ...]) -> type[BaseModel] | None:
    """Return the model whose keys an unknown key at `location` should have been one of."""
    sections: dict[str, type[BaseModel]] = {
        "partitioning": PartitioningSettings,
        "workers": WorkersSettings,
        "monitoring": MonitoringSettings,
        "grafana.bundled": BundledGrafanaSettings,
        "grafana.external": ExternalGrafanaSettings,
        "local": LocalSettings,
        "local.ports": LocalPorts,
        "aws": AwsSettings,
        "aws.network": ExistingNetworkSettings,
        "aws.cluster": ClusterSettings,
        "aws.database": DatabaseSettings,
        "aws.queue": QueueSettings,
        "aws.scaling": WorkersScalingSettings,
        "aws.scaling.fsrsOptimization": ScalingSettings,
        "aws.scaling.complexity": ScalingSettings,
        "history.simulated": SimulatedHistorySettings,
        "history.anki": AnkiHistorySettings,
        "history.none": NoHistorySettings,
    }
    return sections.get(".".join(str(part) for part in location[:-1]))


def _explained(detail: dict[str, Any]) -> str:
    location: tuple[Any, ...] = tuple(detail["loc"])
    path = [str(part) for part in location]
    if path and path[0] in ("grafana", "history") and len(path) > 1:
        # The discriminator's value is part of pydantic's path, not of the key.
        path.pop(1)
    if path and path[0] == "local":
        key = "local:" + ".".join(path[1:])
    else:
        key = f"{PROJECT}:" + ".".join(path)
    if detail["type"] == "extra_forbidden":
        section = _section_at(location)
        known = f"; known are {', '.join(sorted(_keys(section)))}" if section else ""
        return f"{key}: unknown key{known}"
    if detail["type"] == "missing":
        return f"{key}: missing"
    # A section whose parts do not agree is not shown whole; its message names them.
    hidden = path[-1] in SECRET_KEYS or (detail["type"] == "value_error" and path[-1] == "aws")
    got = "" if hidden else f"got {detail['input']!r}, "
    return f"{key}: {got}{_expectation(detail)}"


def _expectation(detail: dict[str, Any]) -> str:
    context: dict[str, Any] = detail.get("ctx") or {}
    if detail["type"] in ("model_type", "dict_type"):
        return "takes a mapping of keys to values"
    if "expected" in context:
        return f"takes {context['expected']}"
    if "expected_tags" in context:
        return f"takes `source`, one of {context['expected_tags']}"
    return str(detail["msg"]).replace("Input should be", "takes").removeprefix("Value error, ")
