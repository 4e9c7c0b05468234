"""The real engine over the stand-in for AWS: a stack of program/ in a directory of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stacks.settings import AwsSettings
from tests.stacks import engine
from tests.stacks.aws.mocks import settings as settings_of
from tests.stacks.aws.provider import Providers, running_providers
from tests.stacks.engine import operations

__all__ = ["UNCHECKED", "Engine", "operations", "running"]

UNCHECKED = {
    "eks:AssociateAccessPolicy",
    "eks:CreateAccessEntry",
    "eks:CreatePodIdentityAssociation",
    "eks:DeleteAccessEntry",
    "eks:DeletePodIdentityAssociation",
    "eks:DisassociateAccessPolicy",
    "eks:UpdateClusterConfig",
    "eks:UpdateClusterVersion",
    "elasticache:CreateCacheParameterGroup",
    "elasticache:CreateUserGroup",
    "elasticache:DeleteCacheParameterGroup",
    "elasticache:DeleteCacheSubnetGroup",
    "elasticache:DeleteUserGroup",
    "elasticache:ModifyCacheParameterGroup",
    "elasticache:ModifyUser",
}
"""Requests that only the service's model has checked; README.md says what that leaves out."""

PROGRAM = Path(__file__).with_name("program")


class Engine(engine.Engine):
    """`pulumi` on one stack of AWS."""

    def __init__(self, directory: Path, stack: str, providers: Providers) -> None:
        super().__init__(directory, stack, providers.environment)
        self.providers = providers

    def prepare(self, settings: AwsSettings, source: str | None = None) -> None:
        """Lay out the program, or the one of `source` in its place, and create the stack."""
        self.lay_out(PROGRAM, _config(settings))
        if source is not None:
            self.rewrite(source)

    def configure(self, settings: AwsSettings) -> None:
        """Write the settings of the stack."""
        self.set_config(_config(settings))


def _config(settings: AwsSettings) -> dict[str, object]:
    aws = json.loads(settings.model_dump_json(by_alias=True, exclude_none=True))
    return {"learning-platform:aws": aws}


@contextmanager
def running(directory: Path, environment: str) -> Iterator[Engine]:
    """A stack that is not yet brought up, over an empty account. One at a time in a process."""
    with running_providers() as providers:
        made = Engine(directory, environment, providers)
        made.prepare(settings_of(environment))
        yield made
