"""A checkout of its own to bring a stack up in: the tree as it stands, its run-time state apart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from stacks.local.supervisor import MARKER
from tools.environment import pulumi_environment

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Checkout:
    """A copy of the working tree; environment and tools are those of the original."""

    root: Path

    @property
    def directory(self) -> Path:
        """Where the stack `local` lives."""
        return self.root / ".local" / "local"

    def stacks(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `python -m stacks`, which is what the Makefile does."""
        python = str(self.root / ".venv" / "bin" / "python")
        return self._run([python, "-m", "stacks", *arguments], check)

    def start_up(self) -> subprocess.Popen[bytes]:
        """Begin `python -m stacks up`, and go on while it runs."""
        return subprocess.Popen(
            [str(self.root / ".venv" / "bin" / "python"), "-m", "stacks", "up"],
            cwd=self.root,
            env={**os.environ, **pulumi_environment(self.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def pulumi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run pulumi by hand, as after `eval "$(make -s env)"`."""
        return self._run(["pulumi", *arguments], check)

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return what an update would do: a step for each resource that would not stay as it is."""
        previewed = self.pulumi("preview", "--stack", "local", "--json")
        steps: list[dict[str, Any]] = json.loads(previewed.stdout).get("steps", [])
        return {
            step["urn"].rsplit("::", 1)[-1]: step
            for step in steps
            if step["op"] not in ("same", "read")
        }

    def configure(self, key: str, value: object) -> None:
        """Set one key of Pulumi.local.yaml, as an editor would."""
        path = self.root / "Pulumi.local.yaml"
        document = yaml.safe_load(path.read_text())
        document["config"][key] = value
        path.write_text(yaml.safe_dump(document))

    def exports(self) -> dict[str, str]:
        """Return the variables that `make -s env` exports, read by a shell."""
        script = 'eval "$1"; exec env -0'
        text = self.stacks("env").stdout
        printed = subprocess.run(
            ["/bin/sh", "-c", script, "sh", text],
            env={},
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(entry.split("=", 1) for entry in printed.stdout.split("\0") if entry)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the stack that run."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(MARKER) == str(self.directory)
                if ours or Path(process.cwd()).is_relative_to(self.directory):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _run(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **pulumi_environment(self.root)}
        completed = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if check and completed.returncode:
            raise AssertionError(
                f"{' '.join(command)} exited with {completed.returncode}:\n"
                f"{completed.stdout[-6000:]}\n{completed.stderr[-3000:]}"
            )
        return completed


@contextmanager
def checked_out(settings: Mapping[str, object] | None = None) -> Iterator[Checkout]:
    """Copy the working tree, with some settings changed; leave nothing running.

    Not below pytest's directory, which any other pytest that starts closes to other users:
    Postgres runs as one.
    """
    root = Path(tempfile.mkdtemp(prefix="checkout-")).resolve()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    for name in (".venv", ".tools"):
        (root / name).symlink_to(ROOT / name)
    checkout = Checkout(root)
    for key, value in (settings or {}).items():
        checkout.configure(key, value)
    try:
        yield checkout
    finally:
        checkout.stacks("down", check=False)
        for process in checkout.processes():
            process.kill()
        shutil.rmtree(root, ignore_errors=True)
