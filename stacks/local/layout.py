"""Where a local stack keeps what it runs: everything below `.local/<stack>` of the checkout."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SOCKET_PATH_LIMIT = 100
"""Bytes a Unix socket's path may have, with room to spare below the kernel's 108."""


@dataclass(frozen=True)
class Layout:
    """The directories of one local stack."""

    root: Path
    """The checkout."""
    stack: str

    @property
    def directory(self) -> Path:
        return self.root / ".local" / self.stack

    def data(self, service: str) -> Path:
        """Return the directory of a service's data, which may outlive the stack."""
        return self.directory / "data" / service

    def service(self, service: str) -> Path:
        """Return the directory of a service's configuration."""
        return self.directory / "services" / service


def supervisor_socket(directory: Path) -> Path:
    """Return the control socket of the supervisor in `directory`.

    A checkout may lie deeper than a socket's path can be long; then the socket lies in the
    temporary directory, under a name made from the path.
    """
    inside = directory / "supervisor.sock"
    if len(str(inside).encode()) <= _SOCKET_PATH_LIMIT:
        return inside
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    private = Path(tempfile.gettempdir()) / f"supervisor-{digest}"
    private.mkdir(mode=0o700, exist_ok=True)
    return private / "supervisor.sock"
