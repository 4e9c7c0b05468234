"""The Pulumi program: reads the settings, picks the platform, composes the stack."""

from __future__ import annotations

import gc
from pathlib import Path

import pulumi

from stacks.composition import compose
from stacks.database_steps import require_files
from stacks.platform import Platform
from stacks.settings import Settings, SettingsError, read_settings, require_no_placeholders

# Each platform is imported where it is picked: the SDKs of AWS and Kubernetes take their time.


def local_platform(root: Path, settings: Settings) -> Platform:
    from stacks.local.platform import LocalPlatform, LocalPlatformArgs

    return LocalPlatform(
        "local",
        LocalPlatformArgs(
            root=root,
            stack=pulumi.get_stack(),
            settings=settings.local,
            monitoring=settings.monitoring,
            grafana=settings.grafana,
        ),
    )


def aws_platform(root: Path, settings: Settings) -> Platform:
    from stacks.aws.platform import AwsPlatform, AwsPlatformArgs, surroundings
    from stacks.policy import enforce

    enforce(surroundings(settings))
    return AwsPlatform(
        "platform", AwsPlatformArgs(root=root, stack=pulumi.get_stack(), settings=settings)
    )


def main() -> None:
    # It ends in seconds; looking for garbage among the SDKs' modules is a fifth of its time.
    gc.disable()
    root = Path(pulumi.get_root_directory())
    try:
        settings = read_settings(pulumi.runtime.get_config_env())
        require_no_placeholders(settings)
        require_files(settings, root)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    pick = local_platform if settings.aws is None else aws_platform
    for name, value in compose(settings, pick(root, settings)).items():
        pulumi.export(name, value)


main()
