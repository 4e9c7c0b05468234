"""Prod with nothing pretended in its pods: the programs of the checkout, on a database and a queue.

The real engine brings up the committed program. What it makes in AWS leads to servers that run
here: the database's address is a real Postgres behind TLS and IAM, the queue's a real Valkey with
the users that the program gave it. Pods have the IAM roles that the program associates with their
service accounts, and what those may do is what the program's policies say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from stacks.aws.database import ADMINISTRATOR, DATABASE
from stacks.kubernetes.namespaces import APPLICATIONS
from tests.kubernetes.certificates import Authority
from tests.kubernetes.control_plane import ControlPlane, running_control_plane
from tests.kubernetes.identity import Identities
from tests.kubernetes.node import Node, running_node
from tests.kubernetes.objects import Cluster, states
from tests.kubernetes.pods import Tempo
from tests.kubernetes.rds import running_database, running_replica
from tests.kubernetes.valkey import Queue, running_queue
from tests.rds import REGION, Rds, SecretsManager, access_key
from tests.stacks import whole
from tests.stacks.aws.kinds.cloud import ACCOUNT
from tests.stacks.aws.kinds.rds import resource_id
from tests.stacks.aws.permissions import PodIdentities, permits
from tests.stacks.engine import Engine
from tests.stacks.stand_ins import StandIns, running_stand_ins

STANDING: Mapping[str, Mapping[str, Any]] = {
    # Nothing is kept for a fortnight here, and no lock is waited for that long.
    "partitioning": {"phase": "schema", "holdDays": 0, "lockAttempts": 20, "jobs": 2},
    "workers": {"drainSeconds": 20},
}
"""What differs from the committed settings of prod, for the sake of time."""

ZONES = ("eu-central-1a", "eu-central-1b", "eu-central-1c")


@dataclass
class Production:
    """The stack `prod`, laid out and configured, and all it stands on."""

    engine: Engine
    plane: ControlPlane
    node: Node
    cluster: Cluster
    """The namespace of our programs."""
    rds: Rds
    replica: Rds
    queue: Queue
    stand_ins: StandIns
    identities: Identities
    secrets: SecretsManager
    """Has the master's password."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Sections of the settings as they were changed so far."""
    is_up: bool = False

    def configure(self, **changed: Mapping[str, Any]) -> None:
        """Change keys of sections; what was changed before stays: `partitioning={"phase": …}`."""
        for section, keys in changed.items():
            self.settings[section] = {**self.settings.get(section, {}), **keys}
        self.engine.set_config(whole.configuration(self.engine.stack, **self.settings))

    def up(self, **changed: Mapping[str, Any]) -> None:
        """Bring it up, or up to date, with changed settings; raise AssertionError if that fails."""
        self.configure(**changed)
        self.engine.up()
        self.is_up = True

    def refused(self, **changed: Mapping[str, Any]) -> str:
        """Return what an update says that must fail."""
        self.configure(**changed)
        failed = self.engine.up(check=False)
        assert failed.returncode, failed.stdout
        return failed.stdout + failed.stderr

    @cached_property
    def administrator(self) -> psycopg.Connection:
        """A superuser's connection with the application's database, once there is that."""
        return psycopg.connect(self.rds.server.url, dbname=DATABASE, autocommit=True)

    def job_pods(self, step: str) -> list[dict[str, Any]]:
        """Return the pods of a step's Jobs, in the order in which they started."""
        pods = self.cluster.pods(**{"app.kubernetes.io/name": step})
        return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def exit_codes(self, step: str) -> list[int]:
        """Return how a step's pods ended that have."""
        ended = [state.get("terminated") for pod in self.job_pods(step) for state in states(pod)]
        return [each["exitCode"] for each in ended if each]

    def log(self, pod: str) -> str:
        """Return what a pod of ours has written."""
        return self.node.logs(APPLICATIONS, pod)

    def close(self) -> None:
        if "administrator" in self.__dict__:
            self.administrator.close()


_SOURCE = "ReadReplicaSourceDBInstanceIdentifier"


class _Database:
    """What an RDS instance of the program's is: the primary's server, or its replica's address."""

    def __init__(self, primary: Rds, replica: Rds) -> None:
        self._primary = primary
        self._replica = replica

    def create(self, database: str, owner: str) -> None:
        with psycopg.connect(self._primary.server.url, autocommit=True) as connection:
            statement = sql.SQL("CREATE DATABASE {} OWNER {}")
            connection.execute(statement.format(*map(sql.Identifier, (database, owner))))

    def set_password(self, owner: str, password: str) -> None:
        with psycopg.connect(self._primary.server.url, autocommit=True) as connection:
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(statement.format(sql.Identifier(owner), password))
        self._primary.master_password = password

    def host(self, instance: dict[str, Any]) -> str:
        return (self._replica if _SOURCE in instance else self._primary).host


class _MasterSecret(SecretsManager):
    """Secrets Manager with the account's secrets, for who may read and decrypt them."""

    def __init__(self, access: _Access) -> None:
        super().__init__("")
        self._access = access

    def answer(
        self, target: str, authorization: str | None, request: dict[str, str]
    ) -> tuple[int, dict[str, str]]:
        key = access_key(authorization or "")
        if not self._access.may_read(key, request["SecretId"]):
            role = self._access.role_of(key) or "nobody"
            message = f"{role} may not read {request['SecretId']}"
            return 400, {"__type": "AccessDeniedException", "Message": message}
        self.arn = request["SecretId"]
        self.text = self._access.text_of(self.arn)
        return super().answer(target, authorization, request)


@dataclass
class _Access:
    """What the keys that pods were given may do, by the policies of their roles."""

    stand_ins: StandIns
    identities: Identities

    def role_of(self, key: str) -> str:
        return self.identities.role_of_key.get(key, "")

    def may(self, key: str, action: str, resource: str, **context: str) -> bool:
        role = self.role_of(key)
        return bool(role) and permits(self.stand_ins.cloud, role, action, resource, context)

    def may_read(self, key: str, secret: str) -> bool:
        """Return whether a key reads a secret, which takes its decryption too."""
        via = {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
        cloud = self.stand_ins.cloud
        with cloud.answering:
            encrypted_by = cloud.client("secretsmanager").describe_secret(SecretId=secret)
        return self.may(key, "secretsmanager:GetSecretValue", secret) and self.may(
            key, "kms:Decrypt", encrypted_by["KmsKeyId"], **via
        )

    def text_of(self, secret: str) -> str:
        cloud = self.stand_ins.cloud
        with cloud.answering:
            found = cloud.client("secretsmanager").get_secret_value(SecretId=secret)
        return found["SecretString"]

    def connecting(self, *, replica: bool) -> Callable[[str, str], bool]:
        """Return what says whether a key connects as a role, to the replica or the primary."""

        def permitted(key: str, role: str) -> bool:
            users = [
                f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:"
                f"{resource_id(instance['DBInstanceIdentifier'])}/{role}"
                for instance in self._instances()
                if (_SOURCE in instance) == replica
            ]
            return any(self.may(key, "rds-db:connect", user) for user in users)

        return permitted

    def _instances(self) -> list[dict[str, Any]]:
        cloud = self.stand_ins.cloud
        with cloud.answering:
            return cloud.client("rds").describe_db_instances()["DBInstances"]


@contextmanager
def running_production(directory: Path) -> Iterator[Production]:
    """Prod, laid out and configured, not yet brought up. One at a time in a process.

    The settings are the committed ones but for `STANDING`.
    """
    authority = Authority(directory, "AWS")
    identities = Identities({}, REGION)
    with ExitStack() as stack:
        plane = stack.enter_context(running_control_plane(directory / "plane"))
        rds = stack.enter_context(running_database(authority, identities, master=ADMINISTRATOR))
        replica = stack.enter_context(running_replica(authority, rds, directory))
        queue = stack.enter_context(running_queue(authority))
        stand_ins = stack.enter_context(
            running_stand_ins(
                directory, plane, patience=120, database=_Database(rds, replica), queue=queue
            )
        )
        identities.roles = PodIdentities(lambda: stand_ins.cloud)
        access = _Access(stand_ins, identities)
        rds.keys.permitted = access.connecting(replica=False)
        replica.keys.permitted = access.connecting(replica=True)
        secrets = stack.enter_context(_MasterSecret(access))
        node = stack.enter_context(
            running_node(
                plane,
                identities=identities,
                environment=_image_variables(authority, secrets),
                zones=ZONES,
                tempo=Tempo(back_off_seconds=1, probe_at_most_every=1),
            )
        )
        engine = stand_ins.engine(directory / "engine", "prod")
        whole.lay_out(engine)
        made = Production(
            engine=engine,
            plane=plane,
            node=node,
            cluster=Cluster(plane.api, APPLICATIONS),
            rds=rds,
            replica=replica,
            queue=queue,
            stand_ins=stand_ins,
            identities=identities,
            secrets=secrets,
        )
        stack.callback(made.close)
        made.configure(**STANDING)
        yield made


def _image_variables(authority: Authority, secrets: SecretsManager) -> dict[str, str]:
    """Return what the image says: whom to trust, and here also where Secrets Manager is."""
    return {
        "PGSSLROOTCERT": str(authority.certificate),
        "SSL_CERT_FILE": str(authority.certificate),
        "PYTHONUNBUFFERED": "1",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": secrets.address,
    }
