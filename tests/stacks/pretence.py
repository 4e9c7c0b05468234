"""A whole stack whose pods only pretend: a step ends at once, a service says that it is ready.

The cluster is a real control plane, and a node runs its pods. What they do is told by files in a
folder: `fails-NAME` makes a step fail, `ran` is what steps have run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.kubernetes.control_plane import ControlPlane, running_control_plane
from tests.kubernetes.node import Node, running_node
from tests.kubernetes.pods import Tempo
from tests.stacks import whole
from tests.stacks.engine import Engine, operations
from tests.stacks.stand_ins import StandIns, running_stand_ins

SERVICE = """
    import http.server
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_): pass
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    address = os.environ["METRICS_HOST"], int(os.environ["METRICS_PORT"])
    http.server.HTTPServer(address, Handler).serve_forever()
"""
"""What a program does that pretends to be a service; an indented block of Python."""

PROGRAM = (
    """#!{python} -S
import os, signal, sys, time
arguments = sys.argv[2:]
module, name = arguments[:2]
directory = {directory!r}
if module == "workers" and name != "install":"""
    + SERVICE
    + """
with open(directory + "/ran", "a") as file:
    file.write(" ".join(arguments[:3]) + "\\n")
if os.path.exists(directory + "/fails-" + name):
    print("first of all,", name, file=sys.stderr)
    print("the disk is full", file=sys.stderr)
    # Not tried again: see stacks/kubernetes/step.py.
    sys.exit(2)
print("{{}}")
"""
)


@dataclass
class Pretended:
    """A stack, what it runs on, and the folder by which its pods are told what to do."""

    engine: Engine
    stand_ins: StandIns
    plane: ControlPlane
    folder: Path
    standing: dict[str, Any]
    """Sections of the settings that hold unless a test says otherwise."""

    def configure(self, **changed: Any) -> None:
        sections = {**self.standing, **changed}
        config = whole.configuration(self.engine.stack, **sections)
        if "history" in sections:
            # Another source has other keys.
            config["learning-platform:history"] = sections["history"]
        self.engine.set_config(config)

    def changes(self, **changed: Any) -> dict[str, str]:
        """Return what an update would do with other settings, by resource."""
        self.configure(**changed)
        return operations(self.engine.changes())

    def ran(self) -> list[str]:
        """Return what the pods of steps ran since this was last asked."""
        file = self.folder / "ran"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


@contextmanager
def running_cluster(
    directory: Path, program: Path, source: str
) -> Iterator[tuple[ControlPlane, Node, StandIns]]:
    """All stand-ins, and a node whose pods run `source`, written to `program`, for `python`."""
    program.write_text(source)
    program.chmod(0o755)
    with (
        running_control_plane(directory / "plane") as plane,
        running_node(plane, tempo=Tempo(0.5, 0.5)) as node,
        running_stand_ins(directory, plane, patience=120) as stand_ins,
    ):
        node.image = replace(node.image, programs={"python": program})
        yield plane, node, stand_ins


@contextmanager
def running_pretended(directory: Path, stack: str, **standing: Any) -> Iterator[Pretended]:
    """A stack that is not yet brought up. One at a time in a process."""
    folder = directory / "pretended"
    folder.mkdir()
    source = PROGRAM.format(python=sys.executable, directory=str(folder))
    with running_cluster(directory, folder / "python", source) as (plane, _, stand_ins):
        engine = stand_ins.engine(directory / "engine", stack)
        whole.lay_out(engine, **standing)
        made = Pretended(engine, stand_ins, plane, folder, standing)
        made.configure()
        yield made
