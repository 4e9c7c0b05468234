"""Make the locked Python environment `.venv` with the machine's python3 (3.11 or newer).

Runs before anything of ours is installed, so it uses the standard library only. The work is done
by uv: the one on PATH if its version fits, else a pinned one that pip puts into `.tools/uv`. Both
follow the machine's own configuration (PIP_*, UV_*, pip.conf, proxies, certificates). A stamp in
the environment makes the next run a matter of milliseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

UV_VERSION = "0.13.9"
"""What pip installs where PATH has no uv that fits."""

_UV_ACCEPTED = ((0, 8), (1,))
"""Versions of uv that read our uv.lock: from the first, below the second."""

_PYTHON_NEEDED = (3, 11)

_UV_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_NO_INDEX")
"""Variables by which the machine tells uv of another package index than that of uv.lock."""


class BootstrapError(Exception):
    """A step failed; the message says which one and what to install by hand."""


def main() -> None:
    """Make or renew `.venv`; exit with 1 and one message where that fails."""
    # Unwind on SIGTERM too, so that pip or uv does not live on without us.
    signal.signal(signal.SIGTERM, exit_terminated)
    try:
        require_python(tuple(sys.version_info[:3]))
        bootstrap(Path(__file__).resolve().parent.parent)
    except BootstrapError as error:
        sys.exit(f"python environment: {error}")
    except KeyboardInterrupt:
        sys.exit("python environment: interrupted; run it again to go on")


def require_python(version: tuple[int, ...]) -> None:
    """Raise BootstrapError if `version` of the running Python is too old."""
    if version < _PYTHON_NEEDED:
        raise BootstrapError(
            f"Python {_dotted(_PYTHON_NEEDED)} or newer is needed, this is {_dotted(version)}; "
            "install a newer one, or name it: `make PYTHON=python3.12 ...`"
        )


def bootstrap(root: Path) -> bool:
    """Bring `.venv` of the checkout `root` to what uv.lock says; return whether it was not so.

    Raises BootstrapError.
    """
    environment = root / ".venv"
    stamp = environment / ".locked-packages"
    if _is_current(environment, stamp, locked_packages(root)):
        return False
    with exclusive(root / ".tools" / "environment.lock", "making the Python environment"):
        wanted = locked_packages(root)
        if _is_current(environment, stamp, wanted):
            return False  # the run we waited for has done it
        _discard_broken(environment)
        started = time.monotonic()
        _say("python environment: installing the locked packages into .venv")
        stamp.unlink(missing_ok=True)
        _sync(root, find_uv(root))
        _write(stamp, wanted)
        _say(f"python environment: ready after {time.monotonic() - started:.0f} s")
    return True


def locked_packages(root: Path) -> str:
    """Return a digest of what decides the contents of `.venv`."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "uv.lock"):
        digest.update((root / name).read_bytes())
    digest.update(repr(sys.version_info[:3]).encode())
    return digest.hexdigest()


def find_uv(root: Path) -> str:
    """Return a uv whose version fits: the one on PATH, else ours, installed where it is missing.

    Raises BootstrapError.
    """
    on_path = shutil.which("uv")
    if on_path is not None and _fits(_version_of(on_path)):
        return on_path
    own = root / ".tools" / "uv"
    if _version_of(str(own / "bin" / "uv")) != _parsed(UV_VERSION):
        _say(f"python environment: installing uv {UV_VERSION} into .tools/uv")
        try:
            pip_install(own, f"uv=={UV_VERSION}")
        except subprocess.CalledProcessError as error:
            raise BootstrapError(
                f"uv {UV_VERSION} could not be installed with pip (exit code {error.returncode}, "
                f"see above). Install uv {_dotted(_UV_ACCEPTED[0])} or newer by hand so that it is "
                "on PATH; where Python came without venv and pip, install those "
                "(Debian: python3-venv)"
            ) from error
    return str(own / "bin" / "uv")


def pip_install(directory: Path, requirement: str) -> None:
    """Install `requirement` into a virtual environment of its own, made anew at `directory`.

    Raises subprocess.CalledProcessError.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip"]
    subprocess.run([*pip, "install", "--disable-pip-version-check", requirement], check=True)


@contextlib.contextmanager
def exclusive(path: Path, doing: str) -> Generator[None]:
    """Hold the lock file `path`; where another run holds it, say so and wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another run is {doing}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def exit_terminated(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """Handle SIGTERM by leaving with the exit code that a shell shows for it."""
    sys.exit(128 + number)


def _sync(root: Path, uv: str) -> None:
    """Install what uv.lock says, nothing else, into `.venv`; raise BootstrapError."""
    unfinished = root / ".tools" / "environment.unfinished"
    variables = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    variables["UV_PROJECT_ENVIRONMENT"] = str(root / ".venv")
    variables.setdefault("UV_PYTHON_DOWNLOADS", "never")
    # A sync that was killed may have left a package half written that looks installed.
    again = ["--reinstall"] if unfinished.exists() else []
    _write(unfinished, "")
    mirror = mirror_variables(os.environ)
    if mirror is None:
        _uv(uv, ["sync", "--frozen", "--python", sys.executable, *again], root, variables)
    else:
        # `uv sync --frozen` takes files from where uv.lock says and asks no mirror.
        variables |= mirror
        requirements = root / ".tools" / "requirements.txt"
        if not (root / ".venv").exists():
            _uv(uv, ["venv", "--quiet", "--python", sys.executable, ".venv"], root, variables)
        export = ["export", "--quiet", "--frozen", "--no-emit-project", "--no-header"]
        _uv(uv, [*export, "--output-file", str(requirements)], root, variables)
        options = ["--require-hashes", "--allow-empty-requirements", "--python", ".venv"]
        _uv(uv, ["pip", "sync", *options, *again, str(requirements)], root, variables)
    unfinished.unlink()


def mirror_variables(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the variables that make uv use the machine's mirror of the package index.

    None where the machine names no mirror, {} where it names one in uv's own variables, else what
    pip is told, for uv reads no pip.conf.
    """
    if any(environment.get(name) for name in _UV_INDEX_VARIABLES):
        return {}
    if environment.get("PIP_INDEX_URL"):
        return {"UV_DEFAULT_INDEX": environment["PIP_INDEX_URL"]}
    try:
        told = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    # Lines like `global.index-url='URL'`; what comes later wins. Without pip there are none.
    urls = re.findall(r"^\S+\.index-url='(.+)'$", told.stdout, re.MULTILINE)
    return {"UV_DEFAULT_INDEX": urls[-1]} if urls else None


def _uv(uv: str, arguments: list[str], root: Path, variables: dict[str, str]) -> None:
    code = subprocess.run([uv, *arguments], cwd=root, env=variables, check=False).returncode
    if code != 0:
        raise BootstrapError(
            f"`uv {' '.join(arguments)}` failed with exit code {code}, see above. If the package "
            "index is out of reach, set UV_DEFAULT_INDEX to a mirror that has the packages of "
            "uv.lock and run this again"
        )


def _is_current(environment: Path, stamp: Path, wanted: str) -> bool:
    return _read(stamp) == wanted and _runs([str(environment / "bin" / "python"), "-ISc", ""])


def _discard_broken(environment: Path) -> None:
    """Remove an environment whose Python is gone or is another than the one that runs us."""
    ours = f"import sys; sys.exit(sys.version_info[:3] != {tuple(sys.version_info[:3])})"
    if not environment.exists() or _runs([str(environment / "bin" / "python"), "-ISc", ours]):
        return
    if not (environment / "pyvenv.cfg").exists() and any(environment.iterdir()):
        raise BootstrapError(f"{environment} is no Python environment; move it away")
    shutil.rmtree(environment)


def _runs(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _version_of(uv: str) -> tuple[int, ...]:
    """Return the version that `uv --version` tells; () where it does not run."""
    try:
        told = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ()
    return _parsed(told.stdout)


def _parsed(text: str) -> tuple[int, ...]:
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _fits(version: tuple[int, ...]) -> bool:
    return _UV_ACCEPTED[0] <= version < _UV_ACCEPTED[1]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _write(path: Path, text: str) -> None:
    """Write the whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.replace(path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
