"""Control of supervisord, which keeps the processes of a local stack: no Pulumi in here.

One supervisord a stack. Every program it starts carries `PLATFORM_DIRECTORY` in its environment, so
that processes which outlive a killed supervisord are found and ended before their like is started.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
from supervisor.xmlrpc import SupervisorTransport  # pyright: ignore[reportMissingTypeStubs]

from stacks.local.layout import supervisor_socket

MARKER = "PLATFORM_DIRECTORY"

_NO_SUCH_PROGRAM = 10
_ALREADY_ADDED = 90
_CONNECTION_ERRORS = (OSError, http.client.HTTPException)

_CONFIGURATION = """\
[unix_http_server]
file={socket}
chmod=0700

[supervisord]
directory={directory}
logfile={directory}/supervisord.log
logfile_maxbytes=10MB
logfile_backups=1
pidfile={directory}/supervisord.pid
childlogdir={directory}/logs
umask=077

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{socket}

[include]
files={directory}/programs/*.ini
"""


class SupervisorError(Exception):
    """supervisord could not do what it was asked."""


@dataclass(frozen=True)
class Program:
    """One process to keep running.

    `stop_seconds` is how long it may take to end after `stop_signal`, before it is killed; `user`
    is whom to run as when supervisord runs as root.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 30


@dataclass(frozen=True)
class ProgramState:
    """What supervisord says of a program; `started` is in seconds since the epoch."""

    state: str
    started: int

    @property
    def running(self) -> bool:
        return self.state in ("RUNNING", "STARTING")


class Supervisor:
    """The supervisord that lives in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def _configuration(self) -> Path:
        return self.directory / "supervisord.conf"

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(
            serverurl=f"unix://{supervisor_socket(self.directory)}",
            username=None,
            password=None,
        )
        with xmlrpc.client.ServerProxy(
            "http://127.0.0.1", transport=cast(xmlrpc.client.Transport, transport)
        ) as server:
            return getattr(server.supervisor, method)(*arguments)

    def alive(self) -> bool:
        """Tell whether supervisord answers."""
        try:
            state = cast(dict[str, Any], self._call("getState"))
        except (*_CONNECTION_ERRORS, xmlrpc.client.Error):
            return False
        return state["statename"] == "RUNNING"

    def pid(self) -> int:
        """Return supervisord's process id."""
        return int(self._call("getPID"))

    def start(self) -> None:
        """Start supervisord unless it runs; end what a killed one left behind.

        Raises SupervisorError when it does not come up.
        """
        if self.alive():
            return
        end_processes(self.directory)
        for name in ("programs", "logs"):
            (self.directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        socket = supervisor_socket(self.directory)
        self._configuration.write_text(
            _CONFIGURATION.format(directory=self.directory, socket=socket)
        )
        completed = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
        )
        deadline = time.monotonic() + 20
        while not self.alive():
            if completed.returncode or time.monotonic() > deadline:
                raise SupervisorError(
                    f"supervisord did not start: {completed.stdout.strip()}; "
                    f"see {self.directory}/supervisord.log"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop every program and supervisord itself; return when no process is left."""
        if self.alive():
            process = psutil.Process(self.pid())
            self._call("shutdown")
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(120)
        end_processes(self.directory)

    @contextlib.contextmanager
    def _exclusive(self) -> Generator[None]:
        # Reloading the configuration and adding a program are two calls; resources run in parallel.
        with (self.directory / "programs.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def run(self, program: Program) -> None:
        """Start `program`, in place of an older one of its name.

        Raises SupervisorError when supervisord refuses.
        """
        self.remove(program.name)
        path = self._program_file(program.name)
        path.touch(mode=0o600)
        path.write_text(_program_configuration(program, self.directory))
        try:
            with self._exclusive():
                self._call("reloadConfig")
                try:
                    self._call("addProcessGroup", program.name)
                except xmlrpc.client.Fault as fault:
                    if fault.faultCode != _ALREADY_ADDED:
                        raise
            self._call("startProcess", program.name, False)
        except (*_CONNECTION_ERRORS, xmlrpc.client.Error) as error:
            raise SupervisorError(f"supervisord could not start {program.name}: {error}") from error

    def remove(self, name: str) -> None:
        """Stop the program `name`, wait for its end, and forget it; nothing if unknown."""
        try:
            with contextlib.suppress(xmlrpc.client.Fault):
                self._call("stopProcess", name, True)
            with self._exclusive():
                self._program_file(name).unlink(missing_ok=True)
                with contextlib.suppress(xmlrpc.client.Fault):
                    self._call("removeProcessGroup", name)
                with contextlib.suppress(xmlrpc.client.Fault):
                    self._call("reloadConfig")
        except _CONNECTION_ERRORS:
            # No supervisord, no program; its file must not come back with the next one.
            self._program_file(name).unlink(missing_ok=True)

    def state(self, name: str) -> ProgramState | None:
        """Return the state of the program `name`, None if supervisord is gone or knows it not."""
        try:
            info = cast(dict[str, Any], self._call("getProcessInfo", name))
        except _CONNECTION_ERRORS:
            return None
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _NO_SUCH_PROGRAM:
                return None
            raise
        return ProgramState(str(info["statename"]), int(info["start"]))

    def programs(self) -> list[str]:
        """Return the names of the programs it keeps."""
        return sorted(path.stem for path in (self.directory / "programs").glob("*.ini"))

    def log_tail(self, name: str, lines: int = 20) -> str:
        """Return the last lines the program wrote."""
        path = self.log(name)
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def _program_file(self, name: str) -> Path:
        return self.directory / "programs" / f"{name}.ini"


def _program_configuration(program: Program, directory: Path) -> str:
    environment = {**program.environment, MARKER: str(directory)}
    lines = [
        f"[program:{program.name}]",
        f"command={_escaped(' '.join(_quoted(word) for word in program.command))}",
        f"directory={_escaped(str(program.directory))}",
        "environment="
        + ",".join(f'{key}="{_escaped(_checked(value))}"' for key, value in environment.items()),
        # Started by its resource, in order and with readiness; restarted by supervisord.
        "autostart=false",
        "autorestart=true",
        "startsecs=1",
        "startretries=5",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_seconds}",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={directory}/logs/{program.name}.log",
        "stdout_logfile_maxbytes=20MB",
        "stdout_logfile_backups=1",
    ]
    if program.user is not None:
        lines.append(f"user={program.user}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    # supervisord expands %(name)s in every value.
    return text.replace("%", "%%")


def _checked(text: str) -> str:
    if '"' in text or "\n" in text:
        raise SupervisorError("a value of a program's environment holds a quote or a line break")
    return text


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def end_processes(directory: Path, grace_seconds: float = 20) -> list[int]:
    """End the processes of the stack in `directory` that no supervisord keeps any more.

    They are known by the marker in their environment, or, where a program writes its title over
    that, by the directory they work in. Returns the ids of those that were ended.
    """
    found = [process for process in psutil.process_iter() if _belongs(process, directory)]
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, survivors = psutil.wait_procs(found, timeout=grace_seconds)
    for process in survivors:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(survivors, timeout=grace_seconds)
    return [process.pid for process in found]


def _belongs(process: psutil.Process, directory: Path) -> bool:
    try:
        if process.environ().get(MARKER) == str(directory):
            return True
        return Path(process.cwd()).is_relative_to(directory / "data")
    except (psutil.Error, OSError):
        return False
