"""The engine, as far as a provider tells it things."""

from __future__ import annotations

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc


class Host:
    """The engine's log; silent until the engine has said where it is."""

    def __init__(self) -> None:
        self._engine: engine_pb2_grpc.EngineStub | None = None

    def attach(self, address: str) -> None:
        """Take the address of an engine."""
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))

    def log(self, urn: str, message: str, *, warning: bool = False) -> None:
        """Show a message: a warning, or a status that the next one covers."""
        if self._engine is None:
            return
        severity = engine_pb2.WARNING if warning else engine_pb2.INFO
        request = engine_pb2.LogRequest(
            severity=severity, message=message, urn=urn, ephemeral=not warning
        )
        try:
            self._engine.Log(request, timeout=5)
        except grpc.RpcError:
            self._engine = None
