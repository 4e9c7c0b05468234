"""The real engine over the stand-ins: a stack of program/ in a directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stacks.settings import AwsSettings
from tests.stacks.aws.mocks import settings as settings_of
from tests.stacks.aws.provider import Providers, running_providers

UNCHECKED = {
    "eks:AssociateAccessPolicy",
    "eks:CreateAccessEntry",
    "eks:DeleteAccessEntry",
    "eks:DisassociateAccessPolicy",
    "eks:UpdateClusterConfig",
    "eks:UpdateClusterVersion",
    "elasticache:CreateCacheParameterGroup",
    "elasticache:CreateUserGroup",
    "elasticache:DeleteCacheParameterGroup",
    "elasticache:DeleteCacheSubnetGroup",
    "elasticache:DeleteUserGroup",
    "elasticache:ModifyCacheParameterGroup",
    "elasticache:ModifyUser",
}
"""Requests that only the service's model has checked; README.md says what that leaves out."""

ROOT = Path(__file__).resolve().parents[3]
PASSPHRASE = "only for tests"


@dataclass
class Engine:
    """`pulumi` on one stack; its state is a folder of `directory`."""

    directory: Path
    stack: str
    providers: Providers

    def prepare(self, settings: AwsSettings, source: str | None = None) -> None:
        """Lay out the program, or the one of `source` in its place, and create the stack."""
        program = self.directory / "program"
        shutil.copytree(ROOT / "tests" / "stacks" / "aws" / "program", program)
        if source is not None:
            (program / "__main__.py").write_text(source)
        (self.directory / "state").mkdir()
        (program / "Pulumi.yaml").write_text(
            yaml.safe_dump(
                {
                    "name": "learning-platform",
                    "runtime": {"name": "python", "options": {"virtualenv": str(ROOT / ".venv")}},
                }
            )
        )
        self.configure(settings)
        self.pulumi("stack", "init", self.stack)
        self.configure(settings)

    def configure(self, settings: AwsSettings) -> None:
        """Write the settings of the stack; what pulumi wrote beside them stays."""
        path = self.directory / "program" / f"Pulumi.{self.stack}.yaml"
        document: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {}
        aws = json.loads(settings.model_dump_json(by_alias=True, exclude_none=True))
        path.write_text(yaml.safe_dump({**document, "config": {"learning-platform:aws": aws}}))

    def pulumi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command; raises AssertionError with its output where it fails."""
        completed = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.directory / "program",
            env={
                **os.environ,
                **self.providers.environment,
                "PATH": f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "PULUMI_HOME": str(self.directory / "home"),
                "PULUMI_BACKEND_URL": f"file://{self.directory / 'state'}",
                "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
                "PULUMI_SKIP_UPDATE_CHECK": "true",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if check and completed.returncode:
            raise AssertionError(
                f"pulumi {' '.join(arguments)} exited with {completed.returncode}:\n"
                f"{completed.stdout[-8000:]}\n{completed.stderr[-3000:]}"
            )
        return completed

    def up(self, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.pulumi("up", "--yes", "--skip-preview", "--stack", self.stack, check=check)

    def destroy(self, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.pulumi("destroy", "--yes", "--skip-preview", "-s", self.stack, check=check)

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return what an update would do, by name and type of resource; what stays is left out."""
        previewed = self.pulumi("preview", "--stack", self.stack, "--json")
        steps: list[dict[str, Any]] = json.loads(previewed.stdout).get("steps", [])
        return {
            f"{step['urn'].split('::')[-1]} {step['urn'].split('::')[2].rsplit(':', 1)[-1]}": step
            for step in steps
            if step["op"] not in ("same", "read")
        }

    def outputs(self) -> dict[str, Any]:
        shown = self.pulumi("stack", "output", "--json", "--show-secrets", "--stack", self.stack)
        return json.loads(shown.stdout)

    def state(self) -> str:
        """Return the state as it lies on the disk."""
        return next(self.directory.glob("state/.pulumi/stacks/**/*.json")).read_text()


@contextmanager
def running(directory: Path, environment: str) -> Iterator[Engine]:
    """A stack that is not yet brought up, over an empty account. One at a time in a process."""
    with running_providers() as providers:
        engine = Engine(directory, environment, providers)
        engine.prepare(settings_of(environment))
        yield engine


def operations(changes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return what is done to each resource, the stack left out."""
    return {name: step["op"] for name, step in changes.items() if not name.endswith(" Stack")}
