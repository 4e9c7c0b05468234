"""The Pulumi program: reads the settings, picks the platform, composes the stack."""

from __future__ import annotations

from pathlib import Path

import pulumi

from stacks.composition import compose
from stacks.database_steps import require_files
from stacks.local.platform import LocalPlatform, LocalPlatformArgs
from stacks.settings import SettingsError, read_settings


def main() -> None:
    root = Path(pulumi.get_root_directory())
    try:
        settings = read_settings(pulumi.runtime.get_config_env())
        require_files(settings, root)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    platform = LocalPlatform(
        "local",
        LocalPlatformArgs(
            root=root,
            stack=pulumi.get_stack(),
            settings=settings.local,
            monitoring=settings.monitoring,
        ),
    )
    for name, value in compose(settings, platform).items():
        pulumi.export(name, value)


main()
