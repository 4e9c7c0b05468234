"""The AWS half of a stack by itself, for tests: what `AwsPlatform` will put together."""

from __future__ import annotations

import pulumi

from stacks.aws.environments import ENVIRONMENTS
from stacks.aws.foundation import Foundation, FoundationArgs, durable
from stacks.policies import Surroundings
from stacks.policy import enforce
from stacks.settings import read_settings

settings = read_settings(pulumi.runtime.get_config_env())
assert settings.aws is not None
replicated = ENVIRONMENTS[settings.aws.environment].database_replica
enforce(Surroundings(durable=durable(settings.aws), replicated=replicated))
foundation = Foundation(
    "platform",
    FoundationArgs(
        stack=pulumi.get_stack(),
        settings=settings.aws,
        queue_prefix=settings.workers.queue_prefix,
    ),
)
for name, value in foundation.outputs().items():
    pulumi.export(name, value)
pulumi.export("queue_url", foundation.cache.url)
