"""A database step as a resource: runs a command, shows what it prints, keeps its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from stacks.local.supervisor import MARKER
from stacks.platform import DATABASE_URL, StepSpec

_INPUTS = ("name", "command", "undo", "refusal", "sql")


class _StepProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(
            changes=_differ(_olds, _news) or _olds.get("databaseUrl") != _news.get("databaseUrl")
        )

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(props["name"], {**props, "result": _run(props, props["command"])})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        # A new port or password is no reason to run the step again.
        again = _differ(_olds, _news)
        result = _run(_news, _news["command"]) if again else _olds.get("result")
        return UpdateResult({**_news, "result": result})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        if _props["refusal"]:
            raise RuntimeError(_props["refusal"])
        if _props["undo"]:
            _run(_props, _props["undo"])


def _differ(olds: dict[str, Any], news: dict[str, Any]) -> bool:
    return any(olds.get(key) != news.get(key) for key in _INPUTS)


class LocalStep(Resource, module="local", name="Step"):
    """A step run on this machine, with the project's Python."""

    result: pulumi.Output[dict[str, Any]]

    def __init__(
        self,
        name: str,
        step: str,
        spec: StepSpec,
        *,
        root: Path,
        directory: Path,
        database_url: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            _StepProvider(),
            name,
            {
                "name": step,
                "root": str(root),
                "directory": str(directory),
                "command": list(spec.command),
                "undo": list(spec.undo),
                "refusal": spec.refusal,
                # A list of lines: of a long text a preview shows but the first three.
                "sql": spec.sql.splitlines(),
                "databaseUrl": pulumi.Output.secret(database_url),
                "result": None,
            },
            pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions(additional_secret_outputs=["databaseUrl"]), opts
            ),
        )


def _run(props: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Run the step's command; its lines are shown as they come, the last of them is its result."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=props["root"],
        env={
            **os.environ,
            DATABASE_URL: props["databaseUrl"],
            MARKER: props["directory"],
            "PYTHONUNBUFFERED": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    progress: list[str] = []

    def show_progress() -> None:
        for line in process.stderr or ():
            progress.append(line.rstrip())
            print(line.rstrip(), flush=True)

    reader = threading.Thread(target=show_progress)
    reader.start()
    output = process.stdout.read() if process.stdout else ""
    reader.join()
    if process.wait():
        ending = "\n".join(progress[-10:]) or output.strip()
        raise RuntimeError(f"{props['name']} failed (exit code {process.returncode}):\n{ending}")
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result
