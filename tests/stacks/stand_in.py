# ruff: noqa: ARG002, the signatures are given
"""The wire between the real engine and a provider of ours in place of a real one.

`PULUMI_DEBUG_PROVIDERS` tells the engine the ports. A backend says what a provider does, in plain
data; `StandIn` speaks for it.
"""

from __future__ import annotations

import importlib.metadata
import secrets
import traceback
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Stands in a preview for a value that only the update will know."""

Inputs = dict[str, Any]


class GoneError(Exception):
    """The resource is no longer there."""


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


def name_of(urn: str) -> str:
    """Return the name of a URN's resource."""
    return urn.split("::")[-1]


class Backend(Protocol):
    """What a provider does, without the wire. Raises one of `refusals` for what it will not do."""

    @property
    def distribution(self) -> str: ...
    @property
    def refusals(self) -> tuple[type[Exception], ...]: ...

    def configure(self, inputs: Inputs) -> None: ...
    def check(self, type_: str, name: str, old: Inputs, new: Inputs, suffix: str) -> Inputs: ...
    def replaces(self, type_: str, changed: set[str]) -> set[str]: ...
    def create(self, type_: str, inputs: Inputs) -> tuple[str, Inputs]: ...
    def read(self, type_: str, id_: str, state: Inputs) -> Inputs: ...
    def update(self, type_: str, id_: str, old: Inputs, new: Inputs) -> Inputs: ...
    def delete(self, type_: str, id_: str, state: Inputs) -> None: ...
    def invoke(self, function: str, arguments: Inputs) -> Inputs: ...


@contextmanager
def told(
    context: grpc.ServicerContext, what: str, refusals: tuple[type[Exception], ...]
) -> Iterator[None]:
    """Turn what went wrong into the error that the engine shows."""
    try:
        yield
    except refusals as error:
        context.abort(grpc.StatusCode.UNKNOWN, f"{what}: {error}")
    except Exception:
        # A call that was ended on purpose has its own status already.
        if context.code() is not None:  # pyright: ignore[reportAttributeAccessIssue]
            raise
        context.abort(grpc.StatusCode.INTERNAL, f"{what}: {traceback.format_exc()}")


class Service(provider_pb2_grpc.ResourceProviderServicer):
    """What all stand-ins leave away: the engine then speaks as it did before there was that."""

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no handshake")


class StandIn(Service):
    """The gRPC service over a backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def _told(self, context: Any, what: str) -> Any:
        return told(context, what, self.backend.refusals)

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        version = importlib.metadata.version(self.backend.distribution)
        return plugin_pb2.PluginInfo(version=version)

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.DiffResponse()

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._told(context, "configure"):
            self.backend.configure(plain(request.args))
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._told(context, request.tok):
            answer = self.backend.invoke(request.tok, plain(request.args))
            response = provider_pb2.InvokeResponse()
            # The field's name is a word of Python.
            getattr(response, "return").CopyFrom(wire(answer))
            return response
        return None

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._told(context, request.urn):
            # The engine's seed, so that a preview names a resource as the update does.
            suffix = bytes(request.randomSeed).hex()[:7] or secrets.token_hex(4)[:7]
            inputs = self.backend.check(
                token(request.urn),
                name_of(request.urn),
                plain(request.olds),
                plain(request.news),
                suffix,
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
        with self._told(context, request.urn):
            assert UNKNOWN not in str(inputs), "an unknown value reached an update"
            id_, outputs = self.backend.create(token(request.urn), inputs)
            return provider_pb2.CreateResponse(id=id_, properties=wire({**inputs, **outputs}))
        return None

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        state, inputs = plain(request.properties), plain(request.inputs)
        with self._told(context, request.urn):
            try:
                live = self.backend.read(token(request.urn), request.id, state)
            except GoneError:
                return provider_pb2.ReadResponse(id="")
            return provider_pb2.ReadResponse(
                id=request.id, properties=wire({**state, **live}), inputs=wire({**inputs, **live})
            )
        return None

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        old, new = plain(request.olds), plain(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=wire(merged(old, new)))
        with self._told(context, request.urn):
            outputs = self.backend.update(token(request.urn), request.id, old, new)
            return provider_pb2.UpdateResponse(properties=wire({**old, **new, **outputs}))
        return None

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._told(context, request.urn):
            with suppress(GoneError):
                self.backend.delete(token(request.urn), request.id, plain(request.properties))
            return empty_pb2.Empty()
        return None


@contextmanager
def serving(**services: tuple[Service, int]) -> Iterator[dict[str, int]]:
    """Serve stand-ins by package, each for so many requests at a time; the value is their ports."""
    servers: dict[str, tuple[grpc.Server, int]] = {}
    try:
        for package, (service, workers) in services.items():
            server = grpc.server(futures.ThreadPoolExecutor(max_workers=workers))
            provider_pb2_grpc.add_ResourceProviderServicer_to_server(service, server)
            servers[package] = (server, server.add_insecure_port("127.0.0.1:0"))
            server.start()
        yield {package: port for package, (_, port) in servers.items()}
    finally:
        for server, _ in servers.values():
            server.stop(None)
