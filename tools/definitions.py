"""Custom resource definitions of the operators that staging and prod run, for the tests.

They are YAML files in the vendors' Go modules, of which nothing is compiled. A module is taken only
when it is the one whose checksum is pinned here; `.tools/crds/NAME` holds its files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.programs import ToolsError


@dataclass(frozen=True)
class Definitions:
    """The custom resource definitions in one directory of a Go module."""

    name: str
    module: str
    version: str
    checksum: str
    """Of the module's files, as go.sum has it."""
    directory: str


DEFINITIONS = (
    Definitions(
        name="keda",
        module="github.com/kedacore/keda/v2",
        version="2.21.0",
        checksum="h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
        directory="config/crd/bases",
    ),
    Definitions(
        name="prometheus-operator",
        module="github.com/prometheus-operator/prometheus-operator",
        version="0.85.0",
        checksum="h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        directory="example/prometheus-operator-crd",
    ),
)

_GO_NEEDED = (1, 24)


def definitions_in_place(wanted: Definitions, root: Path) -> bool:
    """Return whether `.tools/crds` holds them as `wanted` describes them."""
    try:
        return _origin(wanted, root).read_text() == repr(wanted)
    except OSError:
        return False


def obtain_definitions(wanted: Definitions, root: Path) -> None:
    """Put the definitions into `.tools/crds`, whole or not at all; raise ToolsError."""
    from tools.build import find_go
    from tools.progress import say, step

    name = f"{wanted.name} {wanted.version}: custom resource definitions"
    with (
        step(f"{name}, downloading"),
        tempfile.TemporaryDirectory(prefix="staging-", dir=root / ".tools") as staging,
    ):
        source = _downloaded(wanted, find_go(root, _GO_NEEDED), Path(staging)) / wanted.directory
        files = sorted(source.glob("*.yaml"))
        if not files:
            raise ToolsError(f"{wanted.module} v{wanted.version} has no {wanted.directory}/*.yaml")
        complete = Path(staging) / wanted.name
        complete.mkdir()
        for file in files:
            # Files of the module cache are read-only.
            shutil.copyfile(file, complete / file.name)
        (complete / "origin").write_text(repr(wanted))
        target = _origin(wanted, root).parent
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        complete.replace(target)
    say(f"{name}: from the Go module {wanted.module}")


def _downloaded(wanted: Definitions, go: str, outside: Path) -> Path:
    """Return where the module lies in the module cache, checked against the pinned checksum."""
    told = subprocess.run(
        [go, "mod", "download", "-json", f"{wanted.module}@v{wanted.version}"],
        cwd=outside,  # of any module: the requirements of others do not matter
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(told.stdout)
    except ValueError:
        answer = {"Error": told.stderr.strip()}
    if "Error" in answer:
        raise ToolsError(
            f"the Go module {wanted.module} v{wanted.version} could not be had: "
            f"{answer['Error']}\nSet GOPROXY to a mirror that has it and run it again"
        )
    if answer["Sum"] != wanted.checksum:
        raise ToolsError(
            f"the Go module {wanted.module} v{wanted.version} is not what was pinned: its checksum "
            f"is {answer['Sum']}, expected {wanted.checksum}. Nothing of it was taken. Find out "
            "who changed it (the mirror in GOPROXY, a proxy)"
        )
    return Path(answer["Dir"])


def _origin(wanted: Definitions, root: Path) -> Path:
    return root / ".tools" / "crds" / wanted.name / "origin"
