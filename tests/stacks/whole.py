"""The program itself, as it is checked out, with the committed settings of staging or prod."""

from __future__ import annotations

from typing import Any

import yaml

from tests.stacks.aws.mocks import ACCOUNT, ADMINISTRATOR, IMAGE
from tests.stacks.engine import ROOT, Engine

_APART = frozenset({".git", ".local", ".tools", ".venv", "Pulumi.yaml"})


def configuration(stack: str, **changed: Any) -> dict[str, Any]:
    """Return the committed settings of a stack, with what only their user knows filled in.

    `changed` are keys of sections, as `partitioning={"phase": "sync"}`.
    """
    config: dict[str, Any] = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    aws = config["learning-platform:aws"]
    aws |= {"accountId": ACCOUNT, "image": IMAGE}
    aws["cluster"] |= {"administrators": [ADMINISTRATOR]}
    for section, keys in changed.items():
        config[f"learning-platform:{section}"] = {
            **config.get(f"learning-platform:{section}", {}),
            **keys,
        }
    return config


def lay_out(engine: Engine, **changed: Any) -> None:
    """Lay out the checkout as the engine's program, with the settings of its stack."""
    folder = engine.directory / "checkout"
    folder.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in _APART and not path.name.startswith("Pulumi."):
            (folder / path.name).symlink_to(path)
    # The engine starts the program where it lies, not where a link leads to.
    (folder / "__main__.py").unlink()
    (folder / "__main__.py").write_text((ROOT / "__main__.py").read_text())
    engine.lay_out(folder, configuration(engine.stack, **changed))
