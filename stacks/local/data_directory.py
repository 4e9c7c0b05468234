"""A service's data on disk: outlives the stack if told to."""

from __future__ import annotations

import shutil
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

from stacks.local.identity import let_through


class _DataDirectoryProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        moved = _olds.get("path") != _news.get("path")
        return DiffResult(
            changes=any(_olds.get(key) != _news.get(key) for key in ("path", "keep", "owner")),
            replaces=["path"] if moved else [],
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        _make(Path(props["path"]), props["owner"])
        return CreateResult(props["path"], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        _make(Path(_news["path"]), _news["owner"])
        return UpdateResult(_news)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        return ReadResult(id_ if Path(props["path"]).is_dir() else "", props)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        if not _props["keep"]:
            shutil.rmtree(_props["path"], ignore_errors=True)


def _make(path: Path, owner: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    if owner:
        shutil.chown(path, owner)
        for parent in let_through(path):
            print(f"{parent}: opened to pass through (not to list), so that {owner} gets to {path}")


class DataDirectory(Resource, module="local", name="DataDirectory"):
    """A directory of mode 0700; deleted with the resource unless `keep`."""

    path: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        keep: bool,
        owner: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            _DataDirectoryProvider(),
            name,
            {"path": str(path), "keep": keep, "owner": owner or ""},
            opts,
        )
