# ruff: noqa: ARG002, the signatures are given
"""Stand-ins for the providers `aws` and `random`, for the real engine to talk to.

Each resource becomes the requests that the real provider would send, by boto3, to moto: a wrong
name, type, value, reference or order fails the update. What is beyond moto is checked against the
service's model alone and named in `Cloud.unchecked`; tests/stacks/aws/README.md lists all that is
not checked.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError
from moto import mock_aws

from tests.stacks.aws.kinds import KINDS, eks
from tests.stacks.aws.kinds.cloud import Cloud, gone
from tests.stacks.aws.kinds.kind import Inputs, UnknownPropertyError
from tests.stacks.engine import ports
from tests.stacks.stand_in import GoneError, StandIn, serving


@contextmanager
def _gone() -> Iterator[None]:
    """Tell GoneError where AWS says that there is no such thing."""
    try:
        yield
    except ClientError as error:
        if gone(error):
            raise GoneError from None
        raise


class AwsBackend:
    """The kinds of tests/stacks/aws/kinds, over one cloud."""

    distribution = "pulumi-aws"
    refusals = (BotoCoreError, ClientError, UnknownPropertyError, ValueError)

    def __init__(self, control_plane: tuple[str, str] | None = None) -> None:
        self.cloud: Cloud | None = None
        self._control_plane = control_plane

    @property
    def _cloud(self) -> Cloud:
        assert self.cloud is not None, "not configured"
        return self.cloud

    def configure(self, inputs: Inputs) -> None:
        tags = json.loads(inputs.get("defaultTags", "{}")).get("tags", {})
        if self.cloud is None:
            self.cloud = Cloud(inputs["region"], tags)
            self.cloud.control_plane = self._control_plane
        account = self._cloud.client("sts").get_caller_identity()["Account"]
        allowed = json.loads(inputs.get("allowedAccountIds", "[]"))
        if allowed and account not in allowed:
            raise ValueError(f"AWS account {account} is not allowed; allowed are {allowed}")

    def check(self, type_: str, name: str, old: Inputs, new: Inputs, suffix: str) -> Inputs:
        kind = KINDS.get(type_)
        if kind is None:
            raise ValueError(f"the stand-in does not know the type {type_}")
        if kind.autonamed and kind.autonamed in old and kind.autonamed not in new:
            return {**new, kind.autonamed: old[kind.autonamed]}
        return kind.named(new, name, suffix)

    def replaces(self, type_: str, changed: set[str]) -> set[str]:
        return KINDS[type_].replaces(changed)

    def create(self, type_: str, inputs: Inputs) -> tuple[str, Inputs]:
        return KINDS[type_].create(self._cloud, inputs)

    def read(self, type_: str, id_: str, state: Inputs) -> Inputs:
        with _gone():
            return KINDS[type_].read(self._cloud, id_, state)

    def update(self, type_: str, id_: str, old: Inputs, new: Inputs) -> Inputs:
        return KINDS[type_].update(self._cloud, id_, old, new)

    def delete(self, type_: str, id_: str, state: Inputs) -> None:
        with _gone():
            KINDS[type_].delete(self._cloud, id_, state)

    def invoke(self, function: str, arguments: Inputs) -> Inputs:
        if function != "aws:eks/getCluster:getCluster":
            raise ValueError(f"the stand-in does not know the function {function}")
        return eks.get_cluster(self._cloud, arguments["name"])


class RandomBackend:
    """Random ids and passwords; any change makes another one."""

    distribution = "pulumi-random"
    refusals = (ValueError,)

    def configure(self, inputs: Inputs) -> None:
        return

    def check(self, type_: str, name: str, old: Inputs, new: Inputs, suffix: str) -> Inputs:
        return new

    def replaces(self, type_: str, changed: set[str]) -> set[str]:
        return changed

    def create(self, type_: str, inputs: Inputs) -> tuple[str, Inputs]:
        if type_ == "random:index/randomPassword:RandomPassword":
            alphabet = string.ascii_letters + string.digits
            password = "".join(secrets.choice(alphabet) for _ in range(inputs["length"]))
            return "none", {"result": password}
        text = secrets.token_hex(inputs["byteLength"])
        return text, {"hex": text}

    def read(self, type_: str, id_: str, state: Inputs) -> Inputs:
        return {}

    def update(self, type_: str, id_: str, old: Inputs, new: Inputs) -> Inputs:
        return {}

    def delete(self, type_: str, id_: str, state: Inputs) -> None:
        return

    def invoke(self, function: str, arguments: Inputs) -> Inputs:
        raise ValueError(f"the stand-in does not know the function {function}")


@dataclass
class Providers:
    """Both stand-ins as they run, and the cloud behind them."""

    aws: AwsBackend
    environment: dict[str, str]

    @property
    def cloud(self) -> Cloud:
        assert self.aws.cloud is not None
        return self.aws.cloud


@contextmanager
def running_providers() -> Iterator[Providers]:
    """Run both stand-ins over an empty account; the value's `environment` is for `pulumi`."""
    with running_aws() as (aws, served):
        yield Providers(aws, ports(served))


@contextmanager
def running_aws(
    control_plane: tuple[str, str] | None = None,
) -> Iterator[tuple[AwsBackend, dict[str, int]]]:
    """Run both stand-ins over an empty account; the value is the cloud's, and their ports.

    `control_plane` is what an EKS cluster is: its URL, and the base64 of whom to trust.
    """
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        aws = AwsBackend(control_plane)
        # One request at a time: moto is not for threads.
        with serving(aws=(StandIn(aws), 1), random=(StandIn(RandomBackend()), 1)) as served:
            yield aws, served
