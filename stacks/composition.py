"""One stack, put together from its settings and a platform: the same for every environment."""

from __future__ import annotations

import pulumi

from stacks.database_steps import database_steps, maintenance
from stacks.platform import Platform
from stacks.services import services
from stacks.settings import Settings


def compose(settings: Settings, platform: Platform) -> dict[str, pulumi.Input[object]]:
    """Declare everything that runs on `platform`; return the stack's outputs."""
    steps = database_steps(platform, settings.partitioning, settings.history)
    schema = [steps[name] for name in ("schema", "install") if name in steps]
    loaded = [*schema, *(steps[name] for name in ("history",) if name in steps)]
    if (upkeep := maintenance(settings.partitioning)) is not None:
        platform.periodic("maintain", upkeep, list(steps.values())[-1:])
    services(platform, settings.workers, schema=schema, loaded=loaded)
    platform.monitoring()
    return {
        "database_url": platform.database_url,
        "redis_url": platform.redis_url,
        "database_steps": {name: platform.result(step) for name, step in steps.items()},
        **platform.outputs(),
    }
