"""One container as a process: how it starts, stops, and what is told of its end."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kubernetes.environment import Object, UnsupportedError

_MESSAGE_BYTES = 4096
_TAIL_BYTES, _TAIL_LINES = 2048, 80
"""How much of the log is the message of a container that failed and left none."""


@dataclass(frozen=True)
class Image:
    """What the image has, in terms of this machine."""

    variables: Mapping[str, str]
    """Those that its Dockerfile sets."""
    programs: Mapping[str, Path]
    """Where its programs are that differ from those of PATH."""
    places: Mapping[str, Path]
    """Where its directories are; a working directory must be one of them, or below."""

    def directory(self, wanted: str) -> Path:
        """Return what stands in for a directory of the image; raise UnsupportedError."""
        for place, path in self.places.items():
            if wanted == place or wanted.startswith(f"{place}/"):
                return path / wanted[len(place) :].strip("/")
        raise UnsupportedError(f"the working directory {wanted}: the image has none such")


@dataclass(frozen=True)
class Command:
    """A program to run, with all it sees."""

    arguments: Sequence[str]
    variables: Mapping[str, str]
    directory: Path

    def resolved(self, image: Image) -> list[str] | None:
        """Return the command line with the program's path; None if there is no such program."""
        program, *rest = self.arguments
        if program in image.programs:
            return [str(image.programs[program]), *rest]
        found = shutil.which(program, path=self.variables.get("PATH", os.defpath))
        return [found, *rest] if found else None


@dataclass
class Container:
    """A container of a pod through all its restarts; `state` is as the API has it."""

    spec: Object
    message_file: Path
    restarts: int = 0
    state: Object = field(default_factory=lambda: waiting("PodInitializing"))
    last_state: Object = field(default_factory=dict[str, object])
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    ready: bool = False
    started: bool = False
    stop_by: float | None = None
    """When it is killed if it has not ended by then, on the monotonic clock."""
    restart_at: float = 0.0
    failures: int = 0
    """Restarts that count for the back-off."""

    @property
    def name(self) -> str:
        return self.spec["name"]

    @property
    def running(self) -> bool:
        return self.process is not None

    @property
    def exit_code(self) -> int | None:
        """The code of a container that has ended and is not to run again; else None."""
        return self.state.get("terminated", {}).get("exitCode")

    def start(self, command: Command, image: Image, log: Path) -> None:
        """Run the command; one that cannot be run has ended at once, as the kubelet tells it."""
        self.log = log
        self.message_file.unlink(missing_ok=True)
        self.ready = self.started = False
        self.stop_by = None
        began = now()
        arguments = command.resolved(image)
        if arguments is None:
            log.touch()
            message = f'exec: "{command.arguments[0]}": executable file not found in $PATH'
            self._ended(128, "StartError", began, message)
            return
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                arguments,
                env=dict(command.variables),
                cwd=command.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A session of its own: what it starts ends with it, as in a container.
                start_new_session=True,
            )
        self.state = {"running": {"startedAt": began}}

    def collect(self) -> bool:
        """Return whether the process has ended since we looked last; then `state` tells how."""
        if self.process is None:
            return False
        code = self.process.poll()
        if code is None:
            if self.stop_by is not None and time.monotonic() > self.stop_by:
                self.kill()
            return False
        self._end_group()
        self.process = None
        code = 128 - code if code < 0 else code
        began = self.state["running"]["startedAt"]
        self._ended(code, "Completed" if code == 0 else "Error", began, self._message(code))
        return True

    def stop(self, seconds: float) -> None:
        """Ask the process to end, and have it killed if it takes longer than so many seconds."""
        if self.process is not None and self.stop_by is None:
            self.stop_by = time.monotonic() + seconds
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and all it has started."""
        self._end_group()

    def status(self) -> Object:
        """Return its `containerStatus`."""
        identity = f"process://{self.process.pid}" if self.process else ""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": self.spec["image"],
            "containerID": identity,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    def _end_group(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _ended(self, code: int, reason: str, began: str, message: str) -> None:
        self.ready = self.started = False
        self.stop_by = None
        self.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": began,
                "finishedAt": now(),
                **({"message": message} if message else {}),
            }
        }

    def _message(self, code: int) -> str:
        """Return what the container left as its last words."""
        with contextlib.suppress(OSError):
            left = self.message_file.read_bytes()[:_MESSAGE_BYTES].decode(errors="replace")
            if left:
                return left
        policy = self.spec.get("terminationMessagePolicy", "File")
        if policy != "FallbackToLogsOnError" or code == 0 or self.log is None:
            return ""
        tail = self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        return "".join(tail.splitlines(keepends=True)[-_TAIL_LINES:])


def waiting(reason: str, message: str = "") -> Object:
    """Return the state of a container that does not run yet."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def now() -> str:
    """Return the time as the API writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
