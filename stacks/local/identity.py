"""Whom Postgres runs as: itself refuses root."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import TypedDict

SERVICE_USER = "embedded_postgres"


class IdentityArguments(TypedDict, total=False):
    """The arguments of `subprocess.run` that choose whom to run as."""

    user: str
    group: int
    extra_groups: tuple[int, ...]


def service_user() -> str | None:
    """Return the user for services that refuse root, made where it is missing; None if not root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SERVICE_USER)
    except KeyError:
        command = ["useradd", "--system", "--shell", "/bin/false", SERVICE_USER]
        subprocess.run(command, check=True, capture_output=True)
    return SERVICE_USER


def run_as(user: str | None) -> IdentityArguments:
    """Return the arguments for `subprocess` to run as `user`, with none of our own groups."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}


def let_through(path: Path) -> list[Path]:
    """Let other users pass through the parents of `path`: traverse them, not list or read them.

    Returns the directories whose mode was changed.
    """
    changed: list[Path] = []
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            changed.append(parent)
    return changed
