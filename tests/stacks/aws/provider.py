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
from tests.stacks.aws.kinds.cloud import Cloud, Servers, gone
from tests.stacks.aws.kinds.kind import Inputs, UnknownPropertyError
from tests.stacks.engine import ports
from tests.stacks.stand_in import GoneError, StandIn, serving


class AwsBackend:
    """The kinds of tests/stacks/aws/kinds, over one cloud."""

    distribution = "pulumi-aws"
    refusals = (BotoCoreError, ClientError, UnknownPropertyError, ValueError)

    def __init__(self, servers: Servers | None = None) -> None:
        self.cloud: Cloud | None = None
        self._servers = servers

    @contextmanager
    def _asked(self, *, may_be_gone: bool = False) -> Iterator[Cloud]:
        """Give the account to one thread; tell GoneError where it says there is no such thing."""
        assert self.cloud is not None, "not configured"
        with self.cloud.answering:
            try:
                yield self.cloud
            except ClientError as error:
                if may_be_gone and gone(error):
                    raise GoneError from None
                raise

    def configure(self, inputs: Inputs) -> None:
        tags = json.loads(inputs.get("defaultTags", "{}")).get("tags", {})
        if self.cloud is None:
            self.cloud = Cloud(inputs["region"], tags, self._servers)
        with self._asked() as cloud:
            account = cloud.client("sts").get_caller_identity()["Account"]
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
        with self._asked() as cloud:
            return KINDS[type_].create(cloud, inputs)

    def read(self, type_: str, id_: str, state: Inputs) -> Inputs:
        with self._asked(may_be_gone=True) as cloud:
            return KINDS[type_].read(cloud, id_, state)

    def update(self, type_: str, id_: str, old: Inputs, new: Inputs) -> Inputs:
        with self._asked() as cloud:
            return KINDS[type_].update(cloud, id_, old, new)

    def delete(self, type_: str, id_: str, state: Inputs) -> None:
        with self._asked(may_be_gone=True) as cloud:
            KINDS[type_].delete(cloud, id_, state)

    def invoke(self, function: str, arguments: Inputs) -> Inputs:
        if function != "aws:eks/getCluster:getCluster":
            raise ValueError(f"the stand-in does not know the function {function}")
        with self._asked() as cloud:
            return eks.get_cluster(cloud, arguments["name"])


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
    servers: Servers | None = None,
) -> Iterator[tuple[AwsBackend, dict[str, int]]]:
    """Run both stand-ins over an empty account; the value is the cloud's, and their ports.

    `servers` are what stands for the account's own.
    """
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        aws = AwsBackend(servers)
        # One request at a time: moto is not for threads.
        with serving(aws=(StandIn(aws), 1), random=(StandIn(RandomBackend()), 1)) as served:
            yield aws, served
