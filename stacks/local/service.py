"""A process of the local stack as a resource: kept by supervisor, awaited until ready.

`pulumi refresh` notices one that died (`running` turns false, and the next update starts it again)
and one that supervisord had to restart (`startedAt` moves).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from stacks.local.readiness import NotReadyError, ProbeKind, wait_until_ready
from stacks.local.supervisor import Program, Supervisor, SupervisorError

_INPUTS = (
    "name",
    "supervisor",
    "directory",
    "command",
    "environment",
    "files",
    "readiness",
    "source",
    "stopSeconds",
    "stopSignal",
    "user",
    "running",
)


@dataclass(frozen=True)
class Readiness:
    """How to ask a service whether it is ready."""

    kind: ProbeKind
    url: pulumi.Input[str]


@dataclass(frozen=True)
class ServiceArgs:
    """One process to run.

    `files` are written below `directory` (name to content) before the start, readable to `user`
    alone; `source` is a digest of the code it runs: when it changes, the process is restarted.
    """

    supervisor: pulumi.Input[str]
    directory: Path
    command: Sequence[pulumi.Input[str]]
    readiness: Readiness
    environment: Mapping[str, pulumi.Input[str]] = field(
        default_factory=dict[str, pulumi.Input[str]]
    )
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    source: str = ""
    stop_seconds: int = 30
    stop_signal: str = "TERM"
    user: str | None = None


class _ServiceProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        replaces = ["name"] if _olds.get("name") != _news.get("name") else []
        changed = any(_olds.get(key) != _news.get(key) for key in _INPUTS)
        return DiffResult(changes=changed, replaces=replaces, delete_before_replace=True)

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(props["name"], _start(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(_start(_news))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        state = Supervisor(Path(props["supervisor"])).state(props["name"])
        if state is None or not state.running:
            inputs = {key: props[key] for key in _INPUTS if key in props}
            return ReadResult(id_, {**props, "running": False}, {**inputs, "running": False})
        return ReadResult(id_, {**props, "running": True, "startedAt": _time(state.started)})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        Supervisor(Path(_props["supervisor"])).remove(_props["name"])


class Service(Resource, module="local", name="Service"):
    """A process that supervisor keeps; created once it is ready."""

    started_at: pulumi.Output[str]

    def __init__(
        self, name: str, service: str, args: ServiceArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(
            _ServiceProvider(),
            name,
            {
                "name": service,
                "supervisor": args.supervisor,
                "directory": str(args.directory),
                "command": list(args.command),
                # Passwords ride in URLs in the environment and in configuration files.
                "environment": pulumi.Output.secret(dict(args.environment)),
                "files": pulumi.Output.secret(dict(args.files)),
                "readiness": {
                    "kind": args.readiness.kind,
                    "url": pulumi.Output.secret(args.readiness.url),
                },
                "source": args.source,
                "stopSeconds": args.stop_seconds,
                "stopSignal": args.stop_signal,
                "user": args.user or "",
                "running": True,
                "startedAt": None,
            },
            pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions(additional_secret_outputs=["environment", "files"]), opts
            ),
        )


def _time(epoch_seconds: int) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat()


def _start(props: dict[str, Any]) -> dict[str, Any]:
    supervisor = Supervisor(Path(props["supervisor"]))
    name: str = props["name"]
    user: str | None = props["user"] or None
    directory = Path(props["directory"])
    if props["files"]:
        # A service without files of its own works in the checkout, whose mode is not ours.
        _write_files(directory, props["files"], user)
    log = supervisor.log(name)
    try:
        supervisor.run(
            Program(
                name=name,
                command=tuple(props["command"]),
                directory=directory,
                environment=props["environment"],
                user=user,
                stop_seconds=int(props["stopSeconds"]),
                stop_signal=props["stopSignal"],
            )
        )
        wait_until_ready(
            props["readiness"]["kind"],
            props["readiness"]["url"],
            running=lambda: (
                (state := supervisor.state(name)) is not None
                and state.state in ("STARTING", "RUNNING", "BACKOFF")
            ),
        )
    except (NotReadyError, SupervisorError) as error:
        tail = supervisor.log_tail(name)
        # What was not created must not run on.
        supervisor.remove(name)
        raise RuntimeError(f"{name}: {error}. The end of its log, {log}:\n{tail}") from error
    state = supervisor.state(name)
    return {
        **props,
        "running": True,
        "startedAt": _time(state.started) if state else "",
    }


def _write_files(directory: Path, files: Mapping[str, str], user: str | None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    if user is not None:
        shutil.chown(directory, user)
    for name, content in files.items():
        path = directory / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)
        if user is not None:
            shutil.chown(path, user)
