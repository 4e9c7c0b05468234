# ruff: noqa: ARG002, the signatures are given
"""Stand-ins for the providers `aws` and `random`, for the real engine to talk to.

`PULUMI_DEBUG_PROVIDERS` tells the engine their ports. Each resource becomes the requests that the
real provider would send, by boto3, to moto: a wrong name, type, value, reference or order fails the
update. What is beyond moto is checked against the service's model alone and named in
`Cloud.unchecked`; tests/stacks/aws/README.md lists all that is not checked.
"""

from __future__ import annotations

import importlib.metadata
import json
import secrets
import string
import traceback
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from botocore.exceptions import BotoCoreError, ClientError
from google.protobuf import empty_pb2, json_format, struct_pb2
from moto import mock_aws
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.stacks.aws.kinds import KINDS, eks
from tests.stacks.aws.kinds.cloud import Cloud, GoneError, gone
from tests.stacks.aws.kinds.kind import Inputs, UnknownPropertyError

_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def plain(struct: struct_pb2.Struct) -> Inputs:
    """Return the properties as plain data, whole numbers as int; what is null is left out."""

    def tidy(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tidy(inner) for key, inner in value.items() if inner is not None}
        if isinstance(value, list):
            return [tidy(inner) for inner in value]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    return tidy(json_format.MessageToDict(struct))


def wire(values: Inputs) -> struct_pb2.Struct:
    """Return plain data as properties."""
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def merged(old: Inputs, new: Inputs) -> Inputs:
    """Return the state a preview of an update tells: outputs beside and within inputs stay."""
    both = {**old, **new}
    for key in old.keys() & new.keys():
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            both[key] = merged(old[key], new[key])
    return both


def token(urn: str) -> str:
    """Return the type of a URN."""
    return urn.split("::")[2].rsplit("$", 1)[-1]


class Backend(Protocol):
    """What a provider does, without the wire."""

    def configure(self, inputs: Inputs) -> None: ...
    def check(self, type_: str, name: str, old: Inputs, new: Inputs, suffix: str) -> Inputs: ...
    def replaces(self, type_: str, changed: set[str]) -> set[str]: ...
    def create(self, type_: str, inputs: Inputs) -> tuple[str, Inputs]: ...
    def read(self, type_: str, id_: str, state: Inputs) -> Inputs: ...
    def update(self, type_: str, id_: str, old: Inputs, new: Inputs) -> Inputs: ...
    def delete(self, type_: str, id_: str, state: Inputs) -> None: ...
    def invoke(self, function: str, arguments: Inputs) -> Inputs: ...


class AwsBackend:
    """The kinds of tests/stacks/aws/kinds, over one cloud."""

    def __init__(self) -> None:
        self.cloud: Cloud | None = None

    @property
    def _cloud(self) -> Cloud:
        assert self.cloud is not None, "not configured"
        return self.cloud

    def configure(self, inputs: Inputs) -> None:
        tags = json.loads(inputs.get("defaultTags", "{}")).get("tags", {})
        if self.cloud is None:
            self.cloud = Cloud(inputs["region"], tags)
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
        return KINDS[type_].read(self._cloud, id_, state)

    def update(self, type_: str, id_: str, old: Inputs, new: Inputs) -> Inputs:
        return KINDS[type_].update(self._cloud, id_, old, new)

    def delete(self, type_: str, id_: str, state: Inputs) -> None:
        KINDS[type_].delete(self._cloud, id_, state)

    def invoke(self, function: str, arguments: Inputs) -> Inputs:
        if function != "aws:eks/getCluster:getCluster":
            raise ValueError(f"the stand-in does not know the function {function}")
        return eks.get_cluster(self._cloud, arguments["name"])


class RandomBackend:
    """Random ids and passwords; any change makes another one."""

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


@contextmanager
def _told(context: grpc.ServicerContext, what: str) -> Iterator[None]:
    """Turn what went wrong into the error that the engine shows."""
    try:
        yield
    except (BotoCoreError, ClientError, UnknownPropertyError, ValueError) as error:
        context.abort(grpc.StatusCode.UNKNOWN, f"{what}: {error}")
    except Exception:
        context.abort(grpc.StatusCode.INTERNAL, f"{what}: {traceback.format_exc()}")


class StandIn(provider_pb2_grpc.ResourceProviderServicer):
    """The gRPC service over a backend."""

    def __init__(self, package: str, backend: Backend) -> None:
        self.package = package
        self.backend = backend

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version=importlib.metadata.version(f"pulumi-{self.package}"))

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.DiffResponse()

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _told(context, "configure"):
            self.backend.configure(plain(request.args))
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _told(context, request.tok):
            answer = self.backend.invoke(request.tok, plain(request.args))
            response = provider_pb2.InvokeResponse()
            # The field's name is a word of Python.
            getattr(response, "return").CopyFrom(wire(answer))
            return response
        return None

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _told(context, request.urn):
            name = request.urn.split("::")[-1]
            # The engine's seed, so that a preview names a resource as the update does.
            suffix = bytes(request.randomSeed).hex()[:7] or secrets.token_hex(4)[:7]
            inputs = self.backend.check(
                token(request.urn), name, plain(request.olds), plain(request.news), suffix
            )
            return provider_pb2.CheckResponse(inputs=wire(inputs))
        return None

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        old, new = plain(request.old_inputs), plain(request.news)
        changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
        changed -= set(request.ignoreChanges)
        if not changed:
            return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME,
            diffs=sorted(changed),
            replaces=sorted(self.backend.replaces(token(request.urn), changed)),
        )

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        inputs = plain(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(id="", properties=request.properties)
        with _told(context, request.urn):
            assert _UNKNOWN not in str(inputs), "an unknown value reached an update"
            id_, outputs = self.backend.create(token(request.urn), inputs)
            return provider_pb2.CreateResponse(id=id_, properties=wire({**inputs, **outputs}))
        return None

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        state, inputs = plain(request.properties), plain(request.inputs)
        with _told(context, request.urn):
            try:
                live = self.backend.read(token(request.urn), request.id, state)
            except GoneError:
                return provider_pb2.ReadResponse(id="")
            except ClientError as error:
                if not gone(error):
                    raise
                return provider_pb2.ReadResponse(id="")
            return provider_pb2.ReadResponse(
                id=request.id, properties=wire({**state, **live}), inputs=wire({**inputs, **live})
            )
        return None

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        old, new = plain(request.olds), plain(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=wire(merged(old, new)))
        with _told(context, request.urn):
            outputs = self.backend.update(token(request.urn), request.id, old, new)
            return provider_pb2.UpdateResponse(properties=wire({**old, **new, **outputs}))
        return None

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _told(context, request.urn):
            try:
                self.backend.delete(token(request.urn), request.id, plain(request.properties))
            except ClientError as error:
                if not gone(error):
                    raise
            return empty_pb2.Empty()
        return None


def serve(package: str, backend: Backend) -> tuple[grpc.Server, int]:
    """Serve a backend on a free port of loopback, one request at a time (moto is not for threads).

    Returns the server and its port.
    """
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(StandIn(package, backend), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


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
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        aws = AwsBackend()
        served = {"aws": serve("aws", aws), "random": serve("random", RandomBackend())}
        try:
            ports = ",".join(f"{name}:{port}" for name, (_, port) in served.items())
            yield Providers(
                aws,
                {
                    "PULUMI_DEBUG_PROVIDERS": ports,
                    "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
                },
            )
        finally:
            for server, _ in served.values():
                server.stop(None)
