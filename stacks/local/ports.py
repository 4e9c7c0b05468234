"""Ports of the local stack, chosen once among those that are free, and kept."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

_RANGE = range(20_000, 32_000)
"""Below the ports that systems hand out for outgoing connections, so that none is taken by one."""


def choose_ports(
    names: list[str], fixed: Mapping[str, int], kept: Mapping[str, int]
) -> dict[str, int]:
    """Give each name a port: the fixed one, else the one it had, else a free one of its own.

    Raises RuntimeError naming a fixed port that is taken and was not the service's before.
    """
    ports: dict[str, int] = {}
    with ExitStack() as held:
        for name in names:
            if name in fixed:
                ports[name] = fixed[name]
                if kept.get(name) != fixed[name]:
                    _require_free(name, fixed[name])
            elif name in kept:
                ports[name] = kept[name]
        taken = set(ports.values()) | set(fixed.values())
        for name in names:
            if name in ports:
                continue
            # Held until all are chosen, so that no two services are given the same.
            ports[name] = _free_port(held, taken)
    return ports


def _bound(port: int) -> socket.socket:
    candidate = socket.socket()
    try:
        candidate.bind(("127.0.0.1", port))
    except OSError:
        candidate.close()
        raise
    return candidate


def _require_free(name: str, port: int) -> None:
    try:
        _bound(port).close()
    except OSError:
        raise RuntimeError(
            f"local:ports.{name}: port {port} is taken; choose another or leave it out"
        ) from None


def _free_port(held: ExitStack, taken: set[int]) -> int:
    for port in random.sample(_RANGE, len(_RANGE)):
        if port in taken:
            continue
        try:
            held.enter_context(_bound(port))
        except OSError:
            continue
        return port
    raise RuntimeError(f"no port between {_RANGE.start} and {_RANGE.stop} is free")


class _PortsProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(
            changes=any(_olds.get(key) != _news.get(key) for key in ("names", "fixed"))
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult("ports", {**props, "ports": _chosen(props, {})})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult({**_news, "ports": _chosen(_news, _olds.get("ports") or {})})


def _chosen(props: dict[str, Any], kept: Mapping[str, float]) -> dict[str, int]:
    # Numbers are floating point on the wire.
    fixed = {name: int(port) for name, port in props["fixed"].items()}
    return choose_ports(props["names"], fixed, {name: int(port) for name, port in kept.items()})


class Ports(Resource, module="local", name="Ports"):
    """One loopback port for each of `names`; `fixed` names those that are given."""

    ports: pulumi.Output[dict[str, float]]

    def __init__(
        self,
        name: str,
        names: list[str],
        fixed: Mapping[str, int],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            _PortsProvider(), name, {"names": names, "fixed": dict(fixed), "ports": None}, opts
        )

    def __getitem__(self, service: str) -> pulumi.Output[int]:
        return self.ports.apply(lambda ports: int(ports[service]))
