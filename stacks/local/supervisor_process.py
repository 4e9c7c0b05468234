"""The supervisord of a local stack as a resource."""

from __future__ import annotations

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

from stacks.local.supervisor import Supervisor


class _SupervisorProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        moved = _olds.get("directory") != _news.get("directory")
        return DiffResult(
            changes=moved or _olds.get("running") != _news.get("running"),
            replaces=["directory"] if moved else [],
            delete_before_replace=True,
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        Supervisor(Path(props["directory"])).start()
        return CreateResult(props["directory"], {**props, "running": True})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        Supervisor(Path(_news["directory"])).start()
        return UpdateResult({**_news, "running": True})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        running = Supervisor(Path(props["directory"])).alive()
        inputs = {"directory": props["directory"], "running": running}
        return ReadResult(id_, {**props, "running": running}, None if running else inputs)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        Supervisor(Path(_props["directory"])).stop()


class SupervisorProcess(Resource, module="local", name="Supervisor"):
    """supervisord in `directory`; its deletion leaves no process of the stack behind."""

    directory: pulumi.Output[str]

    def __init__(
        self, name: str, directory: Path, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(
            _SupervisorProvider(), name, {"directory": str(directory), "running": True}, opts
        )
