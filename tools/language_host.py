"""A language host for Pulumi programs in Python, for where the vendor's own cannot be had.

`pulumi` talks to a language by a gRPC service, `LanguageRuntime`, of a process that it starts and
whose port it reads from the first line of output. The vendor's Python host is a Go program that is
no module of its own; this one does what `pulumi up` needs of it: it runs the program with the
project's virtual environment by the vendor's `pulumi-language-python-exec`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

_BAIL = 32
"""Exit code by which the exec script says that the error was already shown."""

_EXEC = "pulumi-language-python-exec"

_TOOLS = Path(__file__).resolve().parent.parent / ".tools" / "bin"

_GRACE_SECONDS = 5
"""How long the program has to end after SIGTERM."""


def interpreter(root: str, options: struct_pb2.Struct) -> str:
    """Return the Python of the program: that of `virtualenv` in Pulumi.yaml, else our own.

    Raises FileNotFoundError saying how to make the environment.
    """
    virtualenv = options.fields["virtualenv"].string_value if "virtualenv" in options else ""
    if not virtualenv:
        return sys.executable
    python = Path(root, virtualenv, "bin", "python")
    if not python.exists():
        raise FileNotFoundError(
            f"the virtual environment {python.parent.parent} does not exist: run `make tools`"
        )
    return str(python)


def program_environment(
    python: str, config: Mapping[str, str], secret_keys: Sequence[str]
) -> dict[str, str]:
    """Return the variables of the program: its configuration, and `python`'s environment active."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    directory = Path(python).parent
    if (directory.parent / "pyvenv.cfg").exists():
        environment["VIRTUAL_ENV"] = str(directory.parent)
        environment["PATH"] = os.pathsep.join([str(directory), os.environ.get("PATH", os.defpath)])
    environment["PULUMI_CONFIG"] = json.dumps(dict(config))
    environment["PULUMI_CONFIG_SECRET_KEYS"] = json.dumps(list(secret_keys))
    return environment


def required_plugins() -> Iterator[plugin_pb2.PackageDependency]:
    """Yield the provider plugins that the installed Pulumi packages name for themselves.

    A package says so in `pulumi-plugin.json`: {"resource": true, "name", "version", "server"}.
    """
    for distribution in importlib.metadata.distributions():
        for file in distribution.files or ():
            if file.name != "pulumi-plugin.json":
                continue
            described: dict[str, Any] = json.loads(Path(str(file.locate())).read_text())
            if described.get("resource"):
                yield plugin_pb2.PackageDependency(
                    name=described.get("name") or distribution.name.removeprefix("pulumi-"),
                    kind="resource",
                    version=str(described.get("version") or distribution.version),
                    server=described.get("server") or "",
                )


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Answers the engine; keeps the program it runs, so that it can be ended."""

    def __init__(self) -> None:
        self.engine_address = ""
        self._program: subprocess.Popen[bytes] | None = None

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        self.engine_address = request.engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def GetRequiredPlugins(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return language_pb2.GetRequiredPluginsResponse(
            plugins=[
                plugin_pb2.PluginDependency(
                    name=package.name,
                    kind=package.kind,
                    version=package.version,
                    server=package.server,
                )
                for package in required_plugins()
            ]
        )

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return language_pb2.GetRequiredPackagesResponse(packages=list(required_plugins()))

    def About(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return language_pb2.AboutResponse(
            executable=sys.executable, version=platform.python_version()
        )

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=found.name, version=found.version)
                for found in importlib.metadata.distributions()
            ]
        )

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        self.end_program()
        return empty_pb2.Empty()

    def Run(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        places = os.pathsep.join([str(_TOOLS), os.environ.get("PATH", os.defpath)])
        script = shutil.which(_EXEC, path=places)
        if script is None:
            return language_pb2.RunResponse(error=f"{_EXEC} is not on PATH: run `make tools`")
        try:
            python = interpreter(request.info.root_directory, request.info.options)
        except FileNotFoundError as error:
            return language_pb2.RunResponse(error=str(error))
        try:
            self._program = subprocess.Popen(
                [python, "-u", script, *_arguments(request, self.engine_address)],
                cwd=request.pwd or request.info.program_directory,
                env=program_environment(python, request.config, request.configSecretKeys),
                stdin=subprocess.DEVNULL,
            )
        except OSError as error:
            return language_pb2.RunResponse(error=f"the program cannot be started: {error}")
        code = self._program.wait()
        if code == 0:
            return language_pb2.RunResponse()
        if code == _BAIL:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=f"the program exited with code {code}")

    @property
    def running(self) -> bool:
        """Whether a program runs."""
        return self._program is not None and self._program.poll() is None

    def end_program(self) -> None:
        """Terminate the program if one runs; kill it if it does not heed that."""
        if self._program is None or not self.running:
            return
        self._program.terminate()
        try:
            self._program.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._program.kill()


def _arguments(request: Any, engine_address: str) -> list[str]:
    values = {
        "project": request.project,
        "stack": request.stack,
        "root_directory": request.info.root_directory,
        "parallel": str(request.parallel),
        "dry_run": "true" if request.dryRun else "false",
        "pwd": request.pwd or request.info.program_directory,
        "monitor": request.monitor_address,
        "engine": engine_address,
        "organization": request.organization,
    }
    flags = [word for name, value in values.items() if value for word in (f"--{name}", value)]
    entry_point = request.info.entry_point or request.program or "."
    return [*flags, str(Path(request.info.program_directory, entry_point)), *request.args]


def main() -> None:
    """Serve until the engine goes away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", nargs="*", help="the engine's address, the last argument")
    # The engine may pass flags of the vendor's host (-v=9, --tracing URL) that mean nothing here.
    arguments, _ = parser.parse_known_args()
    host = LanguageHost()
    host.engine_address = arguments.engine[-1] if arguments.engine else ""
    stopped = threading.Event()

    def interrupt(*_: object) -> None:
        # The engine interrupts a host that it needs no more, and waits five seconds for its end.
        # Ctrl-C comes the same way: while a program runs, the engine decides what is cancelled.
        if not host.running:
            stopped.set()

    signal.signal(signal.SIGINT, interrupt)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())  # noqa: ARG005
    parent = os.getppid()
    while not stopped.wait(1):
        if os.getppid() != parent:
            break
    host.end_program()
    server.stop(None)


if __name__ == "__main__":
    main()
