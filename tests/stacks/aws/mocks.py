"""Pulumi's mocks, and what a program declares under them, as plain data."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks

from stacks.aws.foundation import Foundation, FoundationArgs
from stacks.aws.platform import AwsPlatform, AwsPlatformArgs
from stacks.composition import compose
from stacks.settings import AwsSettings, Settings

ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = "123456789012"
REGION = "eu-central-1"
ZONES = ("eu-central-1a", "eu-central-1b", "eu-central-1c")
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:role/Operators"
NAME = "platform"
IMAGE = f"sha256:{'0123456789abcdef' * 4}"


@dataclass(frozen=True)
class Declared:
    """A resource as the engine is told of it; inputs have their names on the wire."""

    type: str
    name: str
    inputs: Mapping[str, Any]
    protect: bool
    retained: bool
    provider: str
    depends_on: frozenset[str]
    ignored: tuple[str, ...]
    hooks: tuple[str, ...]


class _Callbacks:
    """Stands where the SDK serves hooks to the engine, and keeps them."""

    def __init__(self, hooks: dict[str, pulumi.ResourceHook]) -> None:
        self._hooks = hooks

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        self._hooks[hook.name] = hook


@dataclass
class Declarations:
    """All resources of a program, and the stack's outputs."""

    resources: list[Declared] = field(default_factory=list)
    hooks: dict[str, pulumi.ResourceHook] = field(default_factory=dict)

    def of(self, type_: str) -> dict[str, Declared]:
        """Return the resources of a type (`rds/instance:Instance`) by name."""
        return {
            resource.name: resource
            for resource in self.resources
            if resource.type.removeprefix("aws:") == type_
        }

    def one(self, type_: str, name: str) -> Mapping[str, Any]:
        """Return the inputs of one resource."""
        return self.of(type_)[name].inputs


class _Cloud(mocks.Mocks):
    """Answers as AWS would: an id, an ARN, and the outputs that others take in."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        kind = args.typ.split(":")[-1]
        state: dict[str, Any] = {
            "arn": f"arn:aws:test:{REGION}:{ACCOUNT}:{kind}/{args.name}",
            "name": args.name,
            **args.inputs,
        }
        match args.typ:
            case "random:index/randomPassword:RandomPassword":
                state["result"] = "generated-password"
            case "random:index/randomId:RandomId":
                state["hex"] = "0a1b2c3d"
            case "aws:eks/cluster:Cluster":
                state["endpoint"] = "https://cluster.test"
                state["certificateAuthority"] = {"data": "Q0E="}
                state["vpcConfig"] = {
                    **args.inputs["vpcConfig"],
                    "clusterSecurityGroupId": "sg-cluster",
                }
            case "aws:rds/instance:Instance":
                state["identifier"] = args.inputs.get("identifier", args.name)
                state["address"] = f"{args.name}.rds.test"
                state["resourceId"] = f"db-{args.name}"
                if args.inputs.get("manageMasterUserPassword"):
                    state["masterUserSecrets"] = [{"secretArn": "arn:aws:secretsmanager:test"}]
            case "aws:elasticache/replicationGroup:ReplicationGroup":
                state["replicationGroupId"] = args.name
                state["primaryEndpointAddress"] = f"{args.name}.cache.test"
            case "kubernetes:networking.k8s.io/v1:Ingress":
                state["status"] = {"loadBalancer": {"ingress": [{"hostname": "internal-alb.test"}]}}
            case "aws:kms/key:Key":
                state["keyId"] = f"key-{args.name}"
            case "aws:ec2/eip:Eip":
                state["allocationId"] = f"eipalloc-{args.name}"
            case "aws:ecr/repository:Repository":
                state["repositoryUrl"] = f"{ACCOUNT}.dkr.ecr.{REGION}.test/{args.inputs['name']}"
            case _:
                pass
        return f"{args.name}-id", state

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        if args.token == "aws:ec2/getSubnet:getSubnet":
            return {**args.args, "cidrBlock": f"10.{len(args.args['id'])}.0.0/18"}, []
        assert args.token == "aws:eks/getCluster:getCluster", args.token
        return {
            **args.args,
            "endpoint": "https://existing.test",
            "certificateAuthorities": [{"data": "Q0E="}],
            "vpcConfig": {"clusterSecurityGroupId": "sg-existing"},
        }, []


class _Monitor(mocks.MockMonitor):
    """Keeps the options too, which Pulumi's mocks leave out."""

    def __init__(self, declarations: Declarations) -> None:
        super().__init__(_Cloud())
        self._declarations = declarations

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802, the name is given
        response = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            self._declarations.resources.append(
                Declared(
                    type=request.type,
                    name=request.name,
                    inputs=pulumi.runtime.rpc.deserialize_properties(request.object),
                    protect=request.protect,
                    retained=request.retainOnDelete,
                    provider=request.provider or request.providers.get("aws", ""),
                    depends_on=frozenset(request.dependencies),
                    ignored=tuple(request.ignoreChanges),
                    hooks=tuple(request.hooks.before_delete),
                )
            )
        return response


def declare(program: Callable[[], Mapping[str, Any] | None]) -> tuple[Declarations, dict[str, Any]]:
    """Run `program` under mocks; return what it declared, and the values of what it returned."""
    declarations = Declarations()
    values: dict[str, Any] = {}
    asyncio.set_event_loop(asyncio.new_event_loop())
    mocks.set_mocks(
        _Cloud(), project="learning-platform", stack="test", monitor=_Monitor(declarations)
    )

    setattr(pulumi.runtime.settings.SETTINGS, "callbacks", _Callbacks(declarations.hooks))  # noqa: B010

    def run() -> pulumi.Output[None]:
        returned = dict(program() or {})
        return pulumi.Output.all(**returned).apply(values.update)

    pulumi.runtime.test(run)()
    return declarations, values


def settings(environment: str, **changed: Any) -> AwsSettings:
    """Return the smallest valid settings of an environment, with some changed."""
    document: dict[str, Any] = {
        "environment": environment,
        "image": IMAGE,
        "accountId": ACCOUNT,
        "region": REGION,
        "zones": list(ZONES),
        "cluster": {"administrators": [ADMINISTRATOR]},
        **changed,
    }
    return AwsSettings.model_validate_json(json.dumps(document))


@functools.cache
def foundation(environment: str) -> tuple[Declarations, dict[str, Any]]:
    """Declare the whole of an environment; return that, and the outputs."""
    return foundation_with(settings(environment))


def foundation_with(changed: AwsSettings) -> tuple[Declarations, dict[str, Any]]:
    """Declare everything for the settings given."""

    def program() -> Mapping[str, Any]:
        made = Foundation(
            NAME, FoundationArgs(stack=changed.environment, settings=changed, queue_prefix="bull")
        )
        return {
            **made.outputs(),
            "queue_url": made.cache.url,
            "connect_policy": made.database.connect_policy("workers", replica=True),
        }

    return declare(program)


@functools.cache
def whole(environment: str) -> tuple[Declarations, dict[str, Any]]:
    """Declare everything of an environment, what runs in its cluster too."""
    return whole_with(Settings(aws=settings(environment)))


def whole_with(changed: Settings) -> tuple[Declarations, dict[str, Any]]:
    """Declare everything for the settings given, as `__main__.py` does."""
    aws = changed.aws
    assert aws is not None

    def program() -> Mapping[str, Any]:
        args = AwsPlatformArgs(root=ROOT, stack=aws.environment, settings=changed)
        return compose(changed, AwsPlatform(NAME, args))

    return declare(program)
