"""Keeps the rules of stacks/policies in the program: a resource that breaks one is not declared.

`policy/` is a CrossGuard pack of the same rules, for those who keep them outside the program too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pulumi
from pulumi.output import Unknown

from stacks.policies import UNKNOWN, Resource, Surroundings, violations


class PolicyError(Exception):
    """A resource breaks a rule; the message names each."""


def enforce(surroundings: Surroundings) -> None:
    """Check every resource that is declared from now on, before the engine sees it."""

    async def check(
        args: pulumi.ResourceTransformArgs,
    ) -> pulumi.ResourceTransformResult | None:
        if not args.custom:
            return None
        resolved = await pulumi.Output.from_input(args.props).future(with_unknowns=True)
        problems = violations(
            Resource(args.type_, args.name, plain(resolved), bool(args.opts.protect)),
            surroundings,
        )
        if problems:
            raise PolicyError("\n  ".join(["the policy forbids:", *problems]))
        return None

    pulumi.runtime.register_resource_transform(check)


def plain(value: Any) -> Any:
    """Return inputs as the rules take them: what is not known as UNKNOWN."""
    if isinstance(value, Unknown):
        return UNKNOWN
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {key: plain(inner) for key, inner in items}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in cast("list[Any]", value)]
    return value
