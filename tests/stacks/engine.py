"""The real engine on a program in a directory of its own, with stand-ins for the providers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "only for tests"
PROJECT = "learning-platform"


@dataclass
class Engine:
    """`pulumi` on one stack; its state is a folder of `directory`.

    `environment` tells it the ports of the stand-ins, see tests/stacks/stand_in.py. Programs in the
    folder `commands` are found before those of the machine.
    """

    directory: Path
    stack: str
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: Path | None = None

    @property
    def program(self) -> Path:
        return self.directory / "program"

    def lay_out(self, source: str | Path, config: Mapping[str, Any]) -> None:
        """Lay out a program, of its text or its folder, and create the stack."""
        if isinstance(source, Path):
            shutil.copytree(source, self.program, symlinks=True)
        else:
            self.program.mkdir(parents=True)
            self.rewrite(source)
        (self.directory / "state").mkdir()
        (self.program / "Pulumi.yaml").write_text(
            yaml.safe_dump(
                {
                    "name": PROJECT,
                    "runtime": {"name": "python", "options": {"virtualenv": str(ROOT / ".venv")}},
                }
            )
        )
        self.set_config(config)
        self.pulumi("stack", "init", self.stack)
        self.set_config(config)

    def rewrite(self, source: str) -> None:
        """Put another program in place of the one laid out."""
        (self.program / "__main__.py").write_text(source)

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Write the stack's configuration; what pulumi wrote beside it stays."""
        path = self.program / f"Pulumi.{self.stack}.yaml"
        document: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {}
        path.write_text(yaml.safe_dump({**document, "config": dict(config)}))

    def pulumi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command; raises AssertionError with its output where it fails."""
        found = [ROOT / ".tools" / "bin", *([self.commands] if self.commands else [])]
        path = os.pathsep.join([*map(str, found), os.environ["PATH"]])
        completed = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.program,
            env={
                **os.environ,
                **self.environment,
                "PATH": path,
                "PYTHONPATH": str(ROOT),
                "PULUMI_HOME": str(self.directory / "home"),
                "PULUMI_BACKEND_URL": f"file://{self.directory / 'state'}",
                "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                # To compile the SDKs takes seconds, and each command would.
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(ROOT / ".local" / "bytecode"),
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

    def up(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        given = ("--yes", "--skip-preview", "--stack", self.stack)
        return self.pulumi("up", *given, *arguments, check=check)

    def refresh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        given = ("--yes", "--skip-preview", "--stack", self.stack)
        return self.pulumi("refresh", *given, *arguments, check=check)

    def destroy(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        given = ("--yes", "--skip-preview", "--stack", self.stack)
        return self.pulumi("destroy", *given, *arguments, check=check)

    def expect_no_changes(self) -> None:
        self.pulumi("preview", "--expect-no-changes", "--diff", "--stack", self.stack)

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


def operations(changes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return what is done to each resource, the stack left out."""
    return {name: step["op"] for name, step in changes.items() if not name.endswith(" Stack")}


def ports(served: Mapping[str, int]) -> dict[str, str]:
    """Return the environment that makes the engine use providers of ours, by package."""
    return {
        "PULUMI_DEBUG_PROVIDERS": ",".join(f"{name}:{port}" for name, port in served.items()),
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
