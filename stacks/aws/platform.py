"""The AWS platform: RDS, ElastiCache and EKS, with our programs as pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes
import yaml
from pulumi_kubernetes.core.v1 import Secret, ServiceAccount

from migrations.roles import STEPS as STEPS_ROLE
from migrations.roles import WORKERS as WORKERS_ROLE
from migrations.roles import Roles, roles_sql
from stacks.aws import cache, database
from stacks.aws.documents import allow, document
from stacks.aws.environments import ENVIRONMENTS
from stacks.aws.foundation import Foundation, FoundationArgs, durable
from stacks.aws.pod_identity import PodIdentity, PodIdentityArgs
from stacks.database_steps import STEPS
from stacks.kubernetes.jobs import run_job
from stacks.kubernetes.keda import Keda, KedaArgs
from stacks.kubernetes.maintenance import PeriodicArgs, periodic
from stacks.kubernetes.monitoring import PROMETHEUS_URL, Monitoring, MonitoringArgs
from stacks.kubernetes.namespaces import APPLICATIONS, namespace
from stacks.kubernetes.network_policies import NetworkPolicyArgs, enforcement, network_policies
from stacks.kubernetes.pods import PodArgs, SecretKey, labels
from stacks.kubernetes.quota import bounded
from stacks.kubernetes.scaling import ScalingArgs, scaling
from stacks.kubernetes.service import DeployedService, DeploymentArgs
from stacks.kubernetes.sizes import Size
from stacks.kubernetes.step import StepJob, StepJobArgs, undo_job
from stacks.kubernetes.undo import undo_hook
from stacks.platform import (
    DATABASE_REPLICA_URL,
    DATABASE_URL,
    LOG_FORMAT,
    REDIS_URL,
    PeriodicSpec,
    ServiceSpec,
    StepSpec,
)
from stacks.policies import Surroundings
from stacks.settings import AwsSettings, ScalingSettings, Settings

ROLES = "roles"
STEP_IDENTITY = "steps"

_QUEUE_SECRET = SecretKey("queue", "url")
_GENERATION = "learning-platform/queue-password-generation"


@dataclass(frozen=True)
class AwsPlatformArgs:
    """What the AWS platform is told: `root` is the checkout, `stack` the name of the stack."""

    root: Path
    stack: str
    settings: Settings


class AwsPlatform(pulumi.ComponentResource):
    """A foundation in AWS, and in its cluster a namespace for our programs."""

    def __init__(
        self, name: str, args: AwsPlatformArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:aws:Platform", name, None, opts)
        settings = args.settings.aws
        if settings is None:
            raise ValueError("the settings have no section `aws`")
        self._name = name
        self._args = args
        self._settings = settings
        self._sizes = sizes(settings)
        self._services: dict[str, pulumi.Resource] = {}
        self._steps: dict[str, StepJobArgs] = {}
        self._foundation = Foundation(
            name,
            FoundationArgs(
                stack=args.stack,
                settings=settings,
                queue_prefix=args.settings.workers.queue_prefix,
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self._kubernetes = pulumi_kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self._foundation.kubeconfig,
            enable_server_side_apply=True,
            # In place: what reads them is told by an annotation of its pods.
            enable_secret_mutable=True,
            enable_config_map_mutable=True,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._foundation]),
        )
        self._image = pulumi.Output.concat(self._foundation.registry.url, "@", settings.image)
        self._undo = {step: undo_hook(step, self._wanted, self._run_undo) for step in STEPS}
        self._declare_namespace()
        self._declare_queue_secret()
        self._step_account = self._identity(
            STEP_IDENTITY, {"connect": self._foundation.database.connect_policy(STEPS_ROLE)}
        )
        self._roles = self._declare_roles()
        self.register_outputs(self.outputs())

    @property
    def database_url(self) -> pulumi.Output[str]:
        """The URL of the application's database, for the role that owns it; holds no password."""
        return self._database_url(STEPS_ROLE, self._foundation.database.host)

    @property
    def redis_url(self) -> pulumi.Output[str]:
        """The URL of the queue's store; a secret."""
        return self._foundation.cache.url

    @property
    def workers_role(self) -> str | None:
        """A role that owns nothing; `install` says what it may do."""
        return WORKERS_ROLE

    def step(self, name: str, spec: StepSpec, after: Sequence[pulumi.Resource]) -> StepJob:
        """Declare a step; destroying the stack does not take it back."""
        pod = self._step_pod(name, spec.command)
        return self._step(spec, pod, [*self._step_account, self._roles, *after])

    def result(self, step: pulumi.Resource) -> pulumi.Output[dict[str, Any]]:
        """Return the name of the step's Job and when it was done; the rest is in its log."""
        assert isinstance(step, StepJob)  # noqa: S101, narrows the type
        return step.result

    def service(
        self, name: str, spec: ServiceSpec, after: Sequence[pulumi.Resource]
    ) -> DeployedService:
        """Declare one of our programs as a Deployment; it is scraped under its name."""
        account = self._identity(
            name,
            {
                "connect": self._foundation.database.connect_policy(
                    WORKERS_ROLE, replica=spec.reads_replica
                )
            },
        )
        store = self._foundation.database
        environment = {
            **spec.environment,
            **self._environment(),
            DATABASE_URL: self._database_url(WORKERS_ROLE, store.host),
            LOG_FORMAT: "json",
        }
        if spec.reads_replica and store.replica_host is not None:
            environment[DATABASE_REPLICA_URL] = self._database_url(WORKERS_ROLE, store.replica_host)
        size = self._sizes[name]
        service = DeployedService(
            f"{self._name}-{name}",
            DeploymentArgs(
                APPLICATIONS,
                PodArgs(
                    name=name,
                    image=self._image,
                    arguments=spec.command,
                    service_account=name,
                    size=size,
                    environment={**environment, "PROCESSES": str(size.cores)},
                    secrets={REDIS_URL: _QUEUE_SECRET},
                    annotations={_GENERATION: str(self._settings.queue.password_generation)},
                    serving=True,
                    stop_seconds=spec.stop_seconds,
                ),
                durable=durable(self._settings),
            ),
            self._component([*account, self._queue_secret, *self._fences, *after]),
        )
        self._services[name] = service
        return service

    def periodic(self, name: str, spec: PeriodicSpec, after: Sequence[pulumi.Resource]) -> None:
        """Declare a CronJob, with the rights of the steps."""
        periodic(
            f"{self._name}-{name}",
            PeriodicArgs(APPLICATIONS, spec.schedule, self._step_pod(name, spec.command)),
            self._objects([*self._step_account, *after]),
        )

    def monitoring(self) -> None:
        """Declare Prometheus and Alertmanager, and the scaling that asks Prometheus."""
        settings = self._settings
        watched = Monitoring(
            f"{self._name}-monitoring",
            MonitoringArgs(
                stack=self._args.stack,
                settings=self._args.settings.monitoring,
                grafana=self._args.settings.grafana,
                services=tuple(self._services),
                application_namespace=APPLICATIONS,
                account_id=settings.account_id,
                region=settings.region,
                cluster_name=self._foundation.cluster.name,
                durable=ENVIRONMENTS[settings.environment].durable,
                protected=durable(settings),
            ),
            self._component([self._applications]),
        )
        keda = Keda(
            f"{self._name}-keda",
            KedaArgs(
                durable=ENVIRONMENTS[settings.environment].durable, protected=durable(settings)
            ),
            self._component([self._foundation]),
        )
        for name, service in self._services.items():
            if self._sizes[name].scaled:
                scaling(
                    f"{self._name}-{name}-scaling",
                    ScalingArgs(
                        APPLICATIONS,
                        name,
                        PROMETHEUS_URL,
                        self._sizes[name],
                        pause_scale_in=_scaling(settings)[name].pause_scale_in,
                    ),
                    self._objects([keda.release, watched.release, service]),
                )

    def outputs(self) -> dict[str, pulumi.Input[object]]:
        """Return where things are."""
        return self._foundation.outputs()

    def _component(self, after: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        """Return the options of a component of ours."""
        return pulumi.ResourceOptions(
            parent=self,
            providers=[self._foundation.aws, self._kubernetes],
            depends_on=list(after),
        )

    def _objects(self, after: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        """Return the options of an object in the cluster."""
        return pulumi.ResourceOptions(
            parent=self, provider=self._kubernetes, depends_on=list(after)
        )

    def _declare_namespace(self) -> None:
        self._applications = namespace(APPLICATIONS, "restricted", self._objects())
        inside = self._objects([self._applications])
        placement = self._foundation.placement
        self._fences: list[pulumi.Resource] = [
            *bounded(APPLICATIONS, self._sizes, inside),
            *network_policies(
                NetworkPolicyArgs(
                    APPLICATIONS,
                    data_cidrs=placement.database_cidrs,
                    endpoint_cidrs=placement.private_cidrs,
                    database_port=database.PORT,
                    queue_port=cache.PORT,
                    queue_clients=[name for name in self._sizes if name != STEP_IDENTITY],
                    secrets_readers=[ROLES],
                ),
                inside,
            ),
        ]
        if self._settings.cluster.existing is None:
            self._fences.append(enforcement(self._objects()))

    def _declare_queue_secret(self) -> None:
        self._queue_secret = Secret(
            f"{self._name}-queue",
            metadata={
                "name": _QUEUE_SECRET.secret,
                "namespace": APPLICATIONS,
                "labels": labels(_QUEUE_SECRET.secret),
            },
            string_data={_QUEUE_SECRET.key: self._foundation.cache.url},
            # The store knows a new password before anybody is told.
            opts=self._objects([self._applications, self._foundation.cache]),
        )

    def _declare_roles(self) -> StepJob:
        """Declare the step that makes the roles of the others: it alone has the master password."""
        store = self._foundation.database
        policy = pulumi.Output.all(store.master_secret_arn, self._foundation.database_key_arn)
        account = self._identity(
            ROLES,
            {
                "master": policy.apply(
                    lambda arns: document(
                        allow(("secretsmanager:GetSecretValue",), (arns[0],)),
                        allow(
                            ("kms:Decrypt",),
                            (arns[1],),
                            {
                                "StringEquals": {
                                    "kms:ViaService": (
                                        f"secretsmanager.{self._settings.region}.amazonaws.com"
                                    )
                                }
                            },
                        ),
                    )
                )
            },
        )
        spec = StepSpec(
            command=("-m", "migrations", ROLES, "--iam=required", "--json"),
            sql=roles_sql(Roles(iam="required")),
        )
        pod = self._step_pod(ROLES, spec.command)
        pod = replace(
            pod,
            service_account=ROLES,
            environment={**pod.environment, "DATABASE_MASTER_SECRET_ARN": store.master_secret_arn},
        )
        return self._step(spec, pod, [*account, store])

    def _identity(
        self, name: str, policies: Mapping[str, pulumi.Input[str]]
    ) -> tuple[pulumi.Resource, ...]:
        """Declare a service account and the IAM role that its pods take."""
        account = ServiceAccount(
            f"{self._name}-{name}",
            metadata={"name": name, "namespace": APPLICATIONS, "labels": labels(name)},
            automount_service_account_token=False,
            opts=self._objects([self._applications]),
        )
        identity = PodIdentity(
            f"{self._name}-pods-{name}",
            PodIdentityArgs(
                account_id=self._settings.account_id,
                cluster=self._foundation.cluster.name,
                namespace=APPLICATIONS,
                service_account=name,
                policies=policies,
            ),
            self._component(),
        )
        return (account, identity)

    def _step(self, spec: StepSpec, pod: PodArgs, after: Sequence[pulumi.Resource]) -> StepJob:
        args = StepJobArgs(
            APPLICATIONS,
            pod.name,
            spec,
            pod,
            files=self._files(spec),
            database=self._settings.database.restore_snapshot or "",
        )
        self._steps[pod.name] = args
        return StepJob(
            f"{self._name}-{pod.name}",
            args,
            self._undo.get(pod.name),
            self._component([*self._fences, *after]),
        )

    def _step_pod(self, name: str, command: Sequence[str]) -> PodArgs:
        return PodArgs(
            name=name,
            image=self._image,
            arguments=command,
            service_account=STEP_IDENTITY,
            size=self._sizes[STEP_IDENTITY],
            environment={**self._environment(), DATABASE_URL: self.database_url},
            # A slice of a backfill is finished, not torn.
            stop_seconds=60,
            restart_policy="Never",
        )

    def _files(self, spec: StepSpec) -> list[Path]:
        """Return the files that the command names, which are part of what it does."""
        values = [argument.rpartition("=")[2] for argument in spec.command]
        paths = [self._args.root / value for value in values if "/" in value]
        return [path for path in paths if path.is_file()]

    def _environment(self) -> dict[str, pulumi.Input[str]]:
        return {"DATABASE_AUTHENTICATION": "aws-iam", "AWS_REGION": self._settings.region}

    def _database_url(self, role: str, host: pulumi.Output[str]) -> pulumi.Output[str]:
        # Whom to trust is the image's to say: PGSSLROOTCERT in its Dockerfile.
        return pulumi.Output.format(
            "postgresql://{}@{}:{}/{}?sslmode=verify-full",
            role,
            host,
            str(database.PORT),
            database.DATABASE,
        )

    def _wanted(self, step: str) -> bool:
        return step in self._steps

    async def _run_undo(self, step: str, command: Sequence[str]) -> None:
        """Run what takes a step back, which is no longer among those wanted."""
        args = StepJobArgs(
            APPLICATIONS,
            step,
            StepSpec(command=command, sql=""),
            self._step_pod(step, command),
        )
        manifest = await pulumi.Output.from_input(undo_job(args, command)).future()
        kubeconfig = await self._foundation.kubeconfig.future()
        if manifest is None or kubeconfig is None:
            raise RuntimeError(f"{step} cannot be taken back: the cluster is not known")
        pulumi.log.info(f"{step}: taking it back, by the Job {manifest['metadata']['name']}")
        await run_job(yaml.safe_load(kubeconfig), manifest)


def _scaling(settings: AwsSettings) -> dict[str, ScalingSettings]:
    return {
        "fsrs-optimization": settings.scaling.fsrs_optimization,
        "complexity": settings.scaling.complexity,
    }


def sizes(settings: AwsSettings) -> dict[str, Size]:
    """Return the sizes of our programs: the environment's, but for what the settings say."""
    found = dict(ENVIRONMENTS[settings.environment].sizes)
    for name, wanted in _scaling(settings).items():
        changed = wanted.model_dump(exclude_none=True, exclude={"pause_scale_in"})
        size = replace(found[name], **changed)
        if size.minimum > size.maximum:
            # One of them is the environment's, and gives way.
            bound = size.minimum if wanted.maximum is None else size.maximum
            size = replace(size, minimum=bound, maximum=bound)
        found[name] = size
    return found


def surroundings(settings: Settings) -> Surroundings:
    """Return what the rules ask of the stack."""
    aws = settings.aws
    return Surroundings(
        durable=aws is not None and durable(aws),
        replicated=aws is not None and ENVIRONMENTS[aws.environment].database_replica,
    )
