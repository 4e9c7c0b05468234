"""The commands behind `make up`, `make preview`, `make status`, `make env` and `make down`.

They run the real `pulumi` on the stack and say in plain words what came of it. Everything they do
can be done with `pulumi` by hand once `eval "$(make -s env)"` has set its environment.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psutil
import typer
from rich.console import Console
from rich.table import Table

from stacks.event_log import event_log
from stacks.settings import PHASES
from tools.environment import pulumi_environment

ROOT = Path(__file__).resolve().parent.parent

application = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack to work on.")]
# Wide enough where there is no terminal, so that no line is cut in a log.
_console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
_STEPS = ("schema", "install", "history", *PHASES[2:])


def holds_lock(pid: int, since: datetime) -> bool:
    """Tell whether the process that took a lock at that moment is still at work.

    Another may have got its number, and one that was killed stands there until it is waited for.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.create_time() <= since.timestamp() + 1
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Stack:
    """A stack of this checkout, and how to call `pulumi` on it."""

    name: str
    environment: Mapping[str, str]

    @property
    def directory(self) -> Path:
        return ROOT / ".local" / self.name

    @property
    def _settings_file(self) -> Path:
        return ROOT / f"Pulumi.{self.name}.yaml"

    @property
    def _initial_directory(self) -> Path:
        return self.directory / "pulumi"

    def require_settings(self) -> None:
        if not self._settings_file.exists():
            _fail(f"there is no {self._settings_file.name}: which stack did you mean?")

    def exists(self) -> bool:
        listing = self._run("stack", "ls", "--json", capture=True)
        stacks: list[dict[str, Any]] = json.loads(listing.stdout) if listing.stdout else []
        return any(stack["name"].rsplit("/", 1)[-1] == self.name for stack in stacks)

    def ensure(self) -> None:
        """Create the stack where it is missing, without touching the committed settings file.

        Pulumi writes the salt of the stack's secrets into the settings file. The local stack's is
        of this checkout alone, so it is kept in `.local`, in a file that repeats the settings.
        """
        self.require_settings()
        directory = self._initial_directory
        if not self.exists():
            if self.name != "local":
                _fail(f"the stack {self.name} does not exist: see docs/bootstrap.md")
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
            (directory / self._settings_file.name).unlink(missing_ok=True)
            completed = self._run(
                "-C", str(directory), "stack", "init", self.name, "--non-interactive", capture=True
            )
            if completed.returncode:
                _fail(completed.stderr.strip() or completed.stdout.strip())

    def configuration_arguments(self) -> list[str]:
        """Return the arguments that make pulumi read the settings as they are now."""
        salt_file = self._initial_directory / self._settings_file.name
        if not salt_file.exists():
            return []
        salt = salt_file.read_text()
        settings = self._settings_file.read_text()
        if re.search(r"^secretsprovider:", settings, re.MULTILINE):
            return []
        if settings.endswith(salt):
            # Written there by pulumi, called by hand; of no use to other checkouts.
            settings = settings.removesuffix(salt)
            self._settings_file.write_text(settings)
        elif re.search(r"^encryptionsalt:", settings, re.MULTILINE):
            _fail(
                f"{self._settings_file.name} holds the encryptionsalt of another checkout's state: "
                "remove that line"
            )
        merged = self.directory / self._settings_file.name
        merged.write_text(
            f"# Made from {self._settings_file.name}; edit that one.\n{settings}{salt}"
        )
        return ["--config-file", str(merged)]

    def release_dead_lock(self) -> None:
        """Break the lock of a pulumi of this machine that was killed, and so never released it."""
        state = urllib.parse.urlsplit(self.environment["PULUMI_BACKEND_URL"])
        if state.scheme != "file":
            return
        for path in Path(state.path, ".pulumi", "locks").rglob(f"{self.name}/*.json"):
            holder: dict[str, Any] = json.loads(path.read_text())
            here = holder["hostname"] == socket.gethostname()
            if here and not holds_lock(
                int(holder["pid"]), datetime.fromisoformat(holder["timestamp"])
            ):
                typer.echo(f"releasing the lock of pulumi {holder['pid']}, which was killed")
                self._run("cancel", "--yes", "--stack", self.name, capture=True)
                return

    def pulumi(self, command: str, *arguments: str) -> int:
        """Run a pulumi command on the stack, its output shown as it comes; return its exit code."""
        self.release_dead_lock()
        return self._run(
            command, "--stack", self.name, *self.configuration_arguments(), *arguments
        ).returncode

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs, secrets in plain; empty if it was never deployed."""
        completed = self._run(
            "stack", "output", "--stack", self.name, "--json", "--show-secrets", capture=True
        )
        if completed.returncode:
            _fail(completed.stderr.strip())
        outputs: dict[str, Any] = json.loads(completed.stdout or "{}")
        return outputs

    def _run(self, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *arguments],
            cwd=ROOT,
            # Debug commands: what makes pulumi write the log of its events.
            env={**os.environ, **self.environment, "PULUMI_DEBUG_COMMANDS": "true"},
            stdin=subprocess.DEVNULL if capture else None,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
            text=True,
        )


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _stack(name: str) -> Stack:
    environment = pulumi_environment(ROOT)
    if name == "local":
        # The providers of the other stacks are installed Python packages too: of no use here.
        environment["PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"] = "true"
    return Stack(name, environment)


@application.command()
def up(stack: StackOption = "local") -> None:
    """Bring the stack up, or up to date, and say what runs where."""
    target = _stack(stack)
    target.ensure()
    started = time.monotonic()
    with event_log() as events:
        code = target.pulumi(
            "up",
            "--yes",
            "--refresh",
            "--skip-preview",
            "--suppress-outputs",
            *("--event-log", str(events.path)),
        )
    if code:
        raise typer.Exit(1)
    _print_times(events.seconds, time.monotonic() - started)
    _print_summary(target.outputs())
    _print_next()


@application.command()
def preview(stack: StackOption = "local") -> None:
    """Show what `up` would change, in full."""
    target = _stack(stack)
    target.ensure()
    if target.pulumi("preview", "--diff"):
        raise typer.Exit(1)


@application.command()
def down(stack: StackOption = "local") -> None:
    """Stop everything; data stays where `local:keepData` says so."""
    target = _stack(stack)
    if not target.exists():
        typer.echo(f"the stack {stack} does not exist: nothing to stop")
        return
    # The program has the hooks of what is deleted: without it the engine refuses.
    program = ("--run-program",) if stack != "local" else ()
    if target.pulumi("destroy", "--yes", *program):
        raise typer.Exit(1)


@application.command()
def status(stack: StackOption = "local") -> None:
    """Say what runs where, and what of it died."""
    target = _stack(stack)
    if not target.exists():
        _fail(f"the stack {stack} does not exist: run `make up`")
    outputs = target.outputs()
    if "database_steps" not in outputs:
        _fail(f"the stack {stack} is down, or its last update did not finish: run `make up`")
    _print_summary(outputs)
    if stack == "local" and not _print_processes(target.directory):
        raise typer.Exit(1)


@application.command()
def env(stack: StackOption = "local") -> None:
    """Print shell exports: the stack's addresses, and what `pulumi` by hand needs."""
    target = _stack(stack)
    exports = dict(target.environment)
    if target.exists():
        outputs = target.outputs()
        names = ("database_url", "redis_url", "prometheus_url", "alertmanager_url")
        exports |= {name.upper(): outputs[name] for name in names if name in outputs}
    for name, value in exports.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _print_times(seconds_by_resource: dict[str, float], total: float) -> None:
    slowest = sorted(seconds_by_resource.items(), key=lambda item: -item[1])[:8]
    slowest = [(name, seconds) for name, seconds in slowest if seconds >= 0.5]
    if not slowest:
        return
    table = Table(title=f"Where the {total:.0f} s went", box=None, title_justify="left")
    table.add_column("resource")
    table.add_column("seconds", justify="right")
    for name, seconds in slowest:
        table.add_row(name, f"{seconds:.1f}")
    _console.print(table)


def _print_summary(outputs: dict[str, Any]) -> None:
    table = Table(title="What runs where", box=None, show_header=False, title_justify="left")
    for name in ("database_url", "redis_url", "prometheus_url", "alertmanager_url", "grafana_url"):
        if name not in outputs:
            continue
        table.add_row(name.removesuffix("_url"), without_password(str(outputs[name])))
    for name, url in sorted(outputs.get("metrics_urls", {}).items()):
        table.add_row(name, url)
    _console.print(table)
    steps = Table(title="Database steps", box=None, show_header=False, title_justify="left")
    results: dict[str, dict[str, Any]] = outputs["database_steps"]
    for name in sorted(results, key=_STEPS.index):
        steps.add_row(name, summarised(results[name]))
    _console.print(steps)


def _print_next() -> None:
    _console.print(
        'Next: `make status`; `eval "$(make -s env)"` and `psql $DATABASE_URL`; set\n'
        "learning-platform:partitioning.phase to `retire` and `make preview`; `make down`."
    )


def summarised(result: Mapping[str, Any]) -> str:
    """Say in one line what a step did: its message, with rows and rate where that lacks them."""
    message = str(result.get("message") or result.get("outcome", ""))
    rows, rate = int(result.get("rows") or 0), float(result.get("rows_per_second") or 0)
    if not rows or f"{rows:,}" in message:
        return message
    return f"{message}: {rows:,} rows" + (f" at {rate:,.0f} rows/s" if rate else "")


def without_password(url: str) -> str:
    """Return the URL with its password left out."""
    return re.sub(
        r"(?<=://)([^:/@]*):[^@]*@", lambda match: f"{match[1]}@" if match[1] else "", url
    )


def _print_processes(directory: Path) -> bool:
    """Show what supervisor says of each process; tell whether all run."""
    from stacks.local.supervisor import Supervisor

    supervisor = Supervisor(directory)
    table = Table(title="Processes", box=None, show_header=False, title_justify="left")
    healthy = supervisor.alive()
    if not healthy:
        table.add_row("supervisord", "[red]not running: `make up` starts it again")
    for program in supervisor.programs() if healthy else []:
        state = supervisor.state(program)
        running = state is not None and state.running
        healthy = healthy and running
        table.add_row(program, state.state if state else "gone", str(supervisor.log(program)))
    _console.print(table)
    return healthy
