"""Programs of the distribution's packages, unpacked into `.local/debian`: nothing is installed.

For Debian and its like, as any user. Packages come by `apt-get download` and are unpacked with
`dpkg-deb -x`; the shared libraries that the machine lacks are taken from the packages they depend
on. What was unpacked once is used again.

    tree = unpacked("pgbouncer", "pgbouncer")
    subprocess.run([tree.program("pgbouncer"), "--version"], env=tree.environment)

    with running_installation(postgres_15("postgresql-15-partman")) as server:
        ...  # CREATE EXTENSION pg_partman, as server.url
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import Installation

_HOME = Path(__file__).resolve().parent.parent / ".local" / "debian"
_INSTALLED_15 = Path("/usr/lib/postgresql/15/bin")
_SECONDS = 240
_ROUNDS = 3
"""Libraries need libraries; deeper than this is no package for us."""


class UnavailableError(Exception):
    """The package cannot be had on this machine; the message says why. Tests skip."""


@dataclass(frozen=True)
class Tree:
    """Unpacked packages: what would be `/` if they were installed."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return our environment, in which its programs find its libraries."""
        libraries = os.pathsep.join(str(path) for path in _library_directories(self.root))
        return {**os.environ, "LD_LIBRARY_PATH": libraries}

    def program(self, name: str) -> Path:
        """Return the program of that name. Raises UnavailableError."""
        found = [path for path in _programs(self.root) if path.name == name]
        if not found:
            raise UnavailableError(f"there is no program {name} in {self.root}")
        return found[0]


def postgres_15(*extensions: str) -> Installation:
    """Return Debian's Postgres 15: the installed one, else unpacked. Raises UnavailableError.

    With packages of `extensions` always unpacked, together with them: a server looks for extensions
    where it lies itself.
    """
    if not extensions and (_INSTALLED_15 / "initdb").is_file():
        return Installation(_INSTALLED_15)
    packages = ("postgresql-15", "postgresql-client-15", *extensions)
    tree = unpacked("-".join(("postgres-15", *extensions)), *packages)
    return Installation(tree.program("initdb").parent, tree.environment)


def unpacked(name: str, *packages: str) -> Tree:
    """Return `.local/debian/<name>` with the packages and the libraries that the machine lacks.

    Raises UnavailableError.
    """
    for command in ("apt-get", "apt-cache", "dpkg-deb", "dpkg-query", "ldd"):
        if shutil.which(command) is None:
            raise UnavailableError(f"{', '.join(packages)}: there is no {command} on this machine")
    _HOME.mkdir(parents=True, exist_ok=True)
    root = _HOME / name
    with _only_one(name):
        if not root.is_dir():
            fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=_HOME))
            try:
                _unpack_all(fresh, packages)
                # A service's own user passes through.
                fresh.chmod(0o755)
                fresh.rename(root)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return Tree(root)


@contextmanager
def _only_one(name: str) -> Iterator[None]:
    with (_HOME / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack_all(root: Path, packages: tuple[str, ...]) -> None:
    apt = Apt(_HOME / ".apt")
    done: list[str] = []
    wanted = list(packages)
    missing: set[str] = set()
    for _ in range(_ROUNDS):
        if wanted:
            _fetch(apt, root, wanted)
        done += wanted
        missing = missing_libraries(root)
        if not missing:
            return
        wanted = [package for package in apt.libraries_of(wanted) if package not in done]
    lacking = ", ".join(sorted(missing))
    raise UnavailableError(f"{', '.join(packages)}: no package with {lacking} was found")


def _fetch(apt: Apt, root: Path, packages: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="debian-") as directory:
        apt.download(Path(directory), packages)
        for archive in Path(directory).glob("*.deb"):
            _run("dpkg-deb", "-x", str(archive), str(root))


class Apt:
    """apt with the machine's package lists, or, where those do not serve, with lists of our own."""

    def __init__(self, state: Path) -> None:
        self._state = state
        # As root, apt would hand a download to a user of its own, who has no access here.
        self._options = ["-o", "APT::Sandbox::User=root"]

    def download(self, directory: Path, packages: list[str]) -> None:
        """Put the packages' archives into the directory. Raises UnavailableError."""
        command = ["download", *packages]
        try:
            _run("apt-get", *self._options, *command, directory=directory)
        except UnavailableError:
            # The machine's lists are missing, or too old.
            lists = self._state / "lists"
            (lists / "partial").mkdir(parents=True, exist_ok=True)
            self._options += ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={self._state}"]
            _run("apt-get", *self._options, "update")
            _run("apt-get", *self._options, *command, directory=directory)

    def libraries_of(self, packages: list[str]) -> list[str]:
        """Return the library packages that these depend on and the machine does not have."""
        if not packages:
            return []
        only = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        flags = [f"--no-{kind}" for kind in only]
        told = _run("apt-cache", *self._options, "depends", *flags, *packages)
        names = {line.split()[-1] for line in told.splitlines() if " Depends: lib" in line}
        return sorted(name for name in names if not _is_installed(name))


def _is_installed(package: str) -> bool:
    completed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", package], capture_output=True, text=True
    )
    return completed.stdout.endswith(" installed")


def missing_libraries(root: Path) -> set[str]:
    """Return the shared libraries that programs of the tree lack."""
    environment = Tree(root).environment
    missing: set[str] = set()
    for program in _programs(root):
        told = subprocess.run(["ldd", program], capture_output=True, text=True, env=environment)
        missing |= {line.split()[0] for line in told.stdout.splitlines() if "not found" in line}
    return missing


def _programs(root: Path) -> list[Path]:
    return [
        path
        for directory in ("bin", "sbin")
        for path in sorted(root.glob(f"**/{directory}/*"))
        if path.is_file() and _is_elf(path)
    ]


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _library_directories(root: Path) -> list[Path]:
    return [
        path
        for pattern in ("usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib", "lib")
        for path in sorted(root.glob(pattern))
    ]


def _run(*command: str, directory: Path | None = None) -> str:
    try:
        completed = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{' '.join(command)} took longer than {_SECONDS} s") from None
    if completed.returncode:
        reason = (completed.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UnavailableError(f"{' '.join(command)} failed: {reason}")
    return completed.stdout
