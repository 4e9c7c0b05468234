"""The language host, spoken to as the engine does; the engine itself only in the slow test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    language_pb2,
    language_pb2_grpc,
    resource_pb2,
    resource_pb2_grpc,
)

from tests.conftest import Tools
from tests.tools.conftest import ROOT
from tools.build import LANGUAGE_HOST
from tools.language_host import required_plugins
from tools.programs import PULUMI


@dataclass
class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """Registers whatever a program declares."""

    outputs: dict[str, Any] = field(default_factory=dict)

    def GetDeploymentInfo(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return resource_pb2.DeploymentInfo()

    def RegisterResource(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        urn = f"urn:pulumi:test::program::{request.type}::{request.name}"
        return resource_pb2.RegisterResourceResponse(urn=urn)

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        self.outputs.update(dict(request.outputs))
        return empty_pb2.Empty()

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return empty_pb2.Empty()


@dataclass
class Engine(engine_pb2_grpc.EngineServicer):
    """Keeps what a program logs."""

    messages: list[str] = field(default_factory=list)

    def Log(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        self.messages.append(request.message)
        return empty_pb2.Empty()

    def SetRootResource(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return engine_pb2.SetRootResourceResponse()


@dataclass(frozen=True)
class Host:
    """A language host that runs, and what is at the other end of its program."""

    root: Path
    process: subprocess.Popen[str]
    stub: Any
    address: str
    monitor: Monitor
    engine: Engine

    def run(self, program: str, **fields: Any) -> Any:
        """Run a program with the project's environment; return what the host answers."""
        directory = self.root / "program"
        directory.mkdir(exist_ok=True)
        (directory / "__main__.py").write_text(textwrap.dedent(program))
        info: dict[str, Any] = {"virtualenv": str(ROOT / ".venv")}
        info |= fields.pop("options", {})
        request = language_pb2.RunRequest(
            **{
                "project": "program",
                "stack": "test",
                "pwd": str(directory),
                "parallel": 4,
                "monitor_address": self.address,
                **fields,
            }
        )
        request.info.root_directory = str(directory)
        request.info.program_directory = str(directory)
        request.info.entry_point = "."
        request.info.options.update({name: value for name, value in info.items() if value})
        return self.stub.Run(request, timeout=60)


@pytest.fixture
def host(tmp_path: Path, tools: Tools) -> Generator[Host]:
    """The host as `make tools` installs it, in a checkout of its own."""
    root = tmp_path / "a checkout"
    bin_directory = root / ".tools" / "bin"
    bin_directory.mkdir(parents=True)
    (root / "tools").mkdir()
    shutil.copyfile(ROOT / "tools" / "language_host.py", root / "tools" / "language_host.py")
    (root / ".venv").symlink_to(ROOT / ".venv")
    shutil.copy(tools["pulumi-language-python-exec"], bin_directory)
    wrapper = bin_directory / "pulumi-language-python"
    wrapper.write_text(LANGUAGE_HOST)
    wrapper.chmod(0o755)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    monitor, engine = Monitor(), Engine()
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    process = subprocess.Popen(
        [wrapper, "-v=3", "--tracing", "http://nowhere", address],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        # The engine starts its plugins in a process group of their own.
        start_new_session=True,
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = language_pb2_grpc.LanguageRuntimeStub(channel)
        yield Host(root, process, stub, address, monitor, engine)
    process.terminate()
    process.wait(20)
    process.stdout.close()
    server.stop(None)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_tells_the_version_of_the_sdk(host: Host) -> None:
    assert host.stub.GetPluginInfo(empty_pb2.Empty()).version == PULUMI.version


def test_it_takes_the_engines_address_from_the_handshake(host: Host) -> None:
    host.stub.Handshake(
        language_pb2.LanguageHandshakeRequest(engine_address=host.address), timeout=10
    )
    assert host.run("import pulumi; pulumi.log.info('hello')") == language_pb2.RunResponse()
    assert "hello" in host.engine.messages


def test_it_tells_the_python_and_the_packages_of_the_project(host: Host) -> None:
    about = host.stub.About(language_pb2.AboutRequest())
    assert about.version == ".".join(map(str, sys.version_info[:3]))
    found = host.stub.GetProgramDependencies(language_pb2.GetProgramDependenciesRequest())
    assert ("pulumi", PULUMI.version) in {(each.name, each.version) for each in found.dependencies}


def test_a_project_without_provider_packages_needs_no_plugins(host: Host) -> None:
    needed = host.stub.GetRequiredPackages(language_pb2.GetRequiredPackagesRequest())
    assert list(needed.packages) == list(required_plugins())
    older = host.stub.GetRequiredPlugins(language_pb2.GetRequiredPluginsRequest())
    assert [plugin.name for plugin in older.plugins] == [
        package.name for package in needed.packages
    ]


def test_a_package_that_names_its_provider_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pulumi_weather"
    information = tmp_path / "pulumi_weather-1.2.3.dist-info"
    package.mkdir()
    information.mkdir()
    (package / "pulumi-plugin.json").write_text(
        json.dumps({"resource": True, "name": "weather", "server": "https://plugins.example"})
    )
    (information / "METADATA").write_text("Name: pulumi-weather\nVersion: 1.2.3\n")
    (information / "RECORD").write_text("pulumi_weather/pulumi-plugin.json,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    named = [package for package in required_plugins() if package.name == "weather"]
    assert [(each.kind, each.version, each.server) for each in named] == [
        ("resource", "1.2.3", "https://plugins.example")
    ]


def test_a_program_gets_its_configuration_arguments_and_environment(host: Host) -> None:
    answer = host.run(
        """
        import os, pulumi, shutil, sys
        pulumi.export("size", pulumi.Config("program").require("size"))
        pulumi.export("stack", [pulumi.get_organization(), pulumi.get_stack()])
        pulumi.export("dry", pulumi.runtime.is_dry_run())
        pulumi.export("arguments", sys.argv[1:])
        pulumi.export("prefix", sys.prefix)
        pulumi.export("python", shutil.which("python"))
        pulumi.export("here", os.getcwd())
        """,
        config={"program:size": "large"},
        organization="school",
        dryRun=True,
        args=["one", "two"],
    )
    assert answer == language_pb2.RunResponse()
    environment = str(ROOT / ".venv")
    assert host.monitor.outputs == {
        "size": "large",
        "stack": ["school", "test"],
        "dry": True,
        "arguments": ["one", "two"],
        "prefix": environment,
        "python": f"{environment}/bin/python",
        "here": str(host.root / "program"),
    }


def test_an_exception_is_shown_by_the_program_and_bails(host: Host) -> None:
    answer = host.run("raise ValueError('seven of nine')")
    assert answer == language_pb2.RunResponse(bail=True)
    assert any("seven of nine" in message for message in host.engine.messages)


def test_a_program_that_exits_by_itself_is_an_error_with_its_code(host: Host) -> None:
    assert host.run("import os; os._exit(7)").error == "the program exited with code 7"


def test_a_missing_environment_is_an_error_that_says_what_to_do(host: Host) -> None:
    answer = host.run("", options={"virtualenv": "not-there"})
    assert answer.error.startswith("the virtual environment")
    assert answer.error.endswith("not-there does not exist: run `make tools`")


def test_a_missing_directory_is_an_error(host: Host) -> None:
    assert "cannot be started" in host.run("", pwd=str(host.root / "gone")).error


def running_program(host: Host, marker: Path, body: str = "") -> Any:
    """Start a program that runs until it is ended; return the answer to come."""
    executor = futures.ThreadPoolExecutor(1)
    answer = executor.submit(
        host.run,
        f"""
        import os, pathlib, signal, time
        {body}
        pathlib.Path({str(marker)!r}).write_text(str(os.getpid()))
        time.sleep(60)
        """,
    )
    wait_for(lambda: marker.exists() and bool(marker.read_text()))
    return answer


def gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def test_cancel_ends_the_program(host: Host, tmp_path: Path) -> None:
    answer = running_program(host, tmp_path / "pid")
    host.stub.Cancel(empty_pb2.Empty(), timeout=20)
    assert answer.result(20).error == f"the program exited with code {-signal.SIGTERM}"


def test_an_interrupt_leaves_a_running_program_to_the_engine(host: Host, tmp_path: Path) -> None:
    answer = running_program(host, tmp_path / "pid")
    host.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert host.process.poll() is None
    host.stub.Cancel(empty_pb2.Empty(), timeout=20)
    answer.result(20)


def test_an_interrupt_ends_an_idle_host_at_once(host: Host) -> None:
    host.process.send_signal(signal.SIGINT)
    assert host.process.wait(3) == 0


def test_a_host_that_is_terminated_takes_its_program_along(host: Host, tmp_path: Path) -> None:
    answer = running_program(host, tmp_path / "pid")
    host.process.terminate()
    assert host.process.wait(10) == 0
    wait_for(lambda: gone(int((tmp_path / "pid").read_text())))
    futures.wait([answer], 20)
    assert answer.done()


@pytest.mark.slow
def test_a_program_that_ignores_its_end_is_killed(host: Host, tmp_path: Path) -> None:
    running_program(host, tmp_path / "pid", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    host.process.terminate()
    assert host.process.wait(20) == 0
    wait_for(lambda: gone(int((tmp_path / "pid").read_text())))


def test_tools_linked_from_another_checkout_use_this_checkouts_host(
    host: Host, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "tools").mkdir(parents=True)
    (other / ".venv").symlink_to(ROOT / ".venv")
    (other / ".tools").symlink_to(host.root / ".tools")
    (other / "tools" / "language_host.py").write_text("print('the host of the other checkout')")
    told = subprocess.run(
        [other / ".tools" / "bin" / "pulumi-language-python"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "the host of the other checkout\n"


@pytest.mark.slow
def test_the_real_engine_runs_a_program_with_a_dynamic_resource(
    tmp_path: Path, tools: Tools
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "Pulumi.yaml").write_text(
        "name: tiny\nruntime:\n  name: python\n  options:\n"
        f"    virtualenv: {json.dumps(str(ROOT / '.venv'))}\n"
    )
    (tmp_path / "__main__.py").write_text(
        textwrap.dedent(
            """
            import os
            import sys
            import pulumi
            from pulumi.dynamic import CreateResult, Resource, ResourceProvider

            class Note(ResourceProvider):
                def create(self, props):
                    return CreateResult("note", {**props, "made_by": sys.prefix})

            class NoteResource(Resource):
                made_by: pulumi.Output[str]

            if os.environ.get("FAIL"):
                raise pulumi.RunError("not today")
            made = NoteResource(Note(), "note", {"text": "hello", "made_by": None})
            pulumi.export("made_by", made.made_by)
            """
        )
    )
    variables = {
        **os.environ,
        "PATH": tools.search_path,
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": f"file://{tmp_path}/state",
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }

    def pulumi(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tools["pulumi"], *arguments, "--non-interactive"],
            cwd=tmp_path,
            env={**variables, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    assert pulumi("stack", "init", "test").returncode == 0
    up = pulumi("up", "--yes", "--skip-preview")
    assert up.returncode == 0, up.stdout + up.stderr
    assert pulumi("stack", "output", "made_by").stdout.strip() == str(ROOT / ".venv")
    unchanged = pulumi("preview", "--expect-no-changes")
    assert unchanged.returncode == 0, unchanged.stdout
    failed = pulumi("up", "--yes", "--skip-preview", FAIL="1")
    assert failed.returncode != 0
    assert "not today" in failed.stdout + failed.stderr
    destroyed = pulumi("destroy", "--yes", "--skip-preview")
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
