"""Passwords that the stack makes itself."""

from __future__ import annotations

import pulumi
import pulumi_random


def generated_password(
    name: str, generation: int, opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    """Return a password, another one for another generation; secret, so encrypted in the state."""
    return pulumi_random.RandomPassword(
        f"{name}-password",
        length=48,
        # URL-safe, so that it needs no quoting; and RDS takes no `/`, `@`, `"` and no blanks.
        special=False,
        keepers={"generation": str(generation)},
        opts=opts,
    ).result
