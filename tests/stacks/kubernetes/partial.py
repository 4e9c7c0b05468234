"""The error of something that was made and is not as it should be: the engine keeps its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2
from pulumi.runtime.proto import provider_pb2

from tests.stacks.kubernetes.properties import Tree, encoded


class PartialError(Exception):
    """Something was made and is not as it should be; `detail` is what the engine keeps of it."""

    def __init__(self, message: str, detail: Any) -> None:
        super().__init__(message)
        self.detail = detail


def init_failed(id_: str, reasons: list[str], state: Tree, inputs: Tree) -> Any:
    """Return what the engine records of a resource that is there and not ready."""
    return provider_pb2.ErrorResourceInitFailed(
        id=id_, properties=encoded(state), reasons=reasons, inputs=encoded(inputs)
    )


@dataclass(frozen=True)
class _Status(grpc.Status):
    code: grpc.StatusCode
    details: str
    trailing_metadata: Any


def status_of(error: PartialError) -> _Status:
    packed = any_pb2.Any()
    packed.Pack(error.detail)
    whole = status_pb2.Status(
        code=grpc.StatusCode.UNKNOWN.value[0], message=str(error), details=[packed]
    )
    metadata = (("grpc-status-details-bin", whole.SerializeToString()),)
    return _Status(grpc.StatusCode.UNKNOWN, str(error), metadata)
