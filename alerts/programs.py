"""Finds and runs promtool and amtool."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class ProgramError(Exception):
    """A program is missing, or found something wrong; the message says what."""


def find(name: str) -> str:
    """Return the path of a program: from `.tools/bin`, else from PATH. Raises ProgramError."""
    path = os.pathsep.join([str(ROOT / ".tools" / "bin"), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise ProgramError(f"{name} is missing: run `make tools`, or put it on PATH")
    return found


def run(arguments: Sequence[str]) -> str:
    """Run a program and return what it said. Raises ProgramError with its output if it fails."""
    program, *rest = arguments
    completed = subprocess.run(
        [find(program), *rest], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    output = "\n".join(
        part.strip() for part in (completed.stdout, completed.stderr) if part.strip()
    )
    if completed.returncode:
        raise ProgramError(f"{' '.join(arguments)} failed:\n{output}")
    return output
