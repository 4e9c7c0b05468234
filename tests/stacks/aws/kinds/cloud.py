"""An AWS account as the stand-in sees it: boto3's clients, whose requests moto answers.

Botocore checks every request against the service's model: names, types, what is required. Here the
values of enumerations, patterns and lengths are checked too, which botocore leaves to the service.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError
from botocore.model import Shape
from botocore.validate import ParamValidator

ACCOUNT = "123456789012"


def _complaints(shape: Shape, value: Any, path: str) -> list[str]:
    """Return what of `value` is outside the enumerations, patterns and lengths of `shape`."""
    if shape.type_name == "structure":
        return [
            complaint
            for name, inner in value.items()
            for complaint in _complaints(shape.members[name], inner, f"{path}.{name}")  # pyright: ignore[reportAttributeAccessIssue]
        ]
    if shape.type_name == "list":
        return [
            complaint
            for index, inner in enumerate(value)
            for complaint in _complaints(shape.member, inner, f"{path}[{index}]")  # pyright: ignore[reportAttributeAccessIssue]
        ]
    if shape.type_name != "string":
        return []
    allowed = getattr(shape, "enum", None)
    if allowed and value not in allowed:
        return [f"{path}: {value!r} is none of {', '.join(allowed)}"]
    limits: Any = shape.metadata
    if "max" in limits and len(value) > int(limits["max"]):
        return [f"{path}: longer than {limits['max']}"]
    pattern = limits.get("pattern")
    if pattern and _python_pattern(pattern) and not re.fullmatch(pattern, value, re.DOTALL):
        return [f"{path}: {value!r} does not match {pattern}"]
    return []


def _python_pattern(pattern: str) -> bool:
    # The models' patterns are Java's; those with its own character classes are left out.
    try:
        re.compile(pattern)
    except re.error:
        return False
    return r"\p" not in pattern


def _check_values(params: dict[str, Any], model: Any, **_: Any) -> None:
    if model.input_shape is not None:
        complaints = _complaints(model.input_shape, params, model.name)
        if complaints:
            raise ParamValidationError(report="; ".join(complaints))


class DatabaseServer(Protocol):
    """What every RDS instance here is."""

    def create(self, database: str, owner: str) -> None:
        """Create the database that an instance begins with, owned by its master."""
        ...

    def set_password(self, owner: str, password: str) -> None:
        """Give the master a password that the program has chosen."""
        ...

    def host(self, instance: dict[str, Any]) -> str:
        """Return where an instance, as RDS describes it, is reached."""
        ...


class QueueServer(Protocol):
    """What every replication group of ElastiCache here is."""

    @property
    def host(self) -> str: ...

    def set_user(self, name: str, password: str, access: str) -> None:
        """Make or change a user."""
        ...


@dataclass(frozen=True)
class Servers:
    """What runs on this machine in the place of AWS's; the name of what is None leads nowhere."""

    control_plane: tuple[str, str] | None = None
    """URL and certificate authority (base64) of what every EKS cluster is."""
    database: DatabaseServer | None = None
    queue: QueueServer | None = None


class Cloud:
    """One account in one region; `unchecked` names the operations that no emulator answered."""

    def __init__(
        self,
        region: str,
        default_tags: dict[str, str] | None = None,
        servers: Servers | None = None,
    ) -> None:
        self.region = region
        self.default_tags = default_tags or {}
        self.servers = servers or Servers()
        self.answering = threading.RLock()
        """Held while the account is asked or changed: moto is not for threads."""
        self.unchecked: set[str] = set()
        self.shadow: dict[tuple[str, str], dict[str, Any]] = {}
        """What was made by unchecked operations: (kind, name) to its request."""
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the client of a service; its requests are checked in full."""
        if service not in self._clients:
            client = boto3.client(  # pyright: ignore[reportCallIssue, reportArgumentType, reportUnknownMemberType]
                service,  # pyright: ignore[reportArgumentType]
                region_name=self.region,
                aws_access_key_id="testing",
                aws_secret_access_key="testing",
                config=Config(retries={"max_attempts": 1}),
            )
            client.meta.events.register("before-parameter-build.*.*", _check_values)
            self._clients[service] = client
        return self._clients[service]

    def validate(self, service: str, operation: str, params: dict[str, Any]) -> None:
        """Check a request that moto has no answer to, against the service's model alone."""
        model = self.client(service).meta.service_model.operation_model(operation)
        report = ParamValidator().validate(params, model.input_shape)
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())
        _check_values(params, model)
        self.unchecked.add(f"{service}:{operation}")

    def tags(self, inputs: dict[str, Any]) -> dict[str, str]:
        """Return the tags of a resource: those of the provider, and its own."""
        return {**self.default_tags, **inputs.get("tags", {})}

    def tag_list(self, inputs: dict[str, Any]) -> list[dict[str, str]]:
        """Return the tags as most services want them."""
        return [{"Key": key, "Value": value} for key, value in sorted(self.tags(inputs).items())]


def gone(error: ClientError) -> bool:
    """Tell whether AWS said that there is no such thing."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return "NotFound" in code or code in ("NoSuchEntity", "ResourceNotFoundException")
