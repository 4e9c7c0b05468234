"""The environment in which `pulumi` works on this checkout: its own state, passphrase and tools."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def pulumi_environment(root: Path) -> dict[str, str]:
    """Return the variables to run `pulumi` with; make what they point to where it is missing.

    State and passphrase lie in `.local` of the checkout `root`. A variable that the user has set
    stays as it is (a team may keep its state elsewhere); PATH gets `.tools/bin` in front.
    """
    local = root / ".local"
    state = local / "state"
    passphrase = local / "passphrase"
    # Passed through by the service user of Postgres, whose data lies below; not listed.
    local.mkdir(mode=0o711, exist_ok=True)
    state.mkdir(mode=0o700, exist_ok=True)
    if not passphrase.exists():
        _make_passphrase(passphrase)
    defaults = {
        "PULUMI_HOME": str(local / "pulumi-home"),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
        # Providers start processes; gRPC's own handling of forks would break some of them.
        "GRPC_ENABLE_FORK_SUPPORT": "false",
    }
    if "PULUMI_CONFIG_PASSPHRASE" not in os.environ:
        defaults["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(passphrase)
    environment = {name: os.environ.get(name, value) for name, value in defaults.items()}
    tools = str(root / ".tools" / "bin")
    environment["PATH"] = os.pathsep.join(
        [tools, *(part for part in os.environ["PATH"].split(os.pathsep) if part != tools)]
    )
    return environment


def _make_passphrase(path: Path) -> None:
    """Write a new passphrase, whole or not at all; that of a run at the same time is left alone."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(temporary)
    temporary.unlink()
