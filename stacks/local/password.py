"""A generated password, secret in the state."""

from __future__ import annotations

import secrets
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider


class _PasswordProvider(ResourceProvider):
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:  # noqa: ARG002, the signature is given
        # URL-safe, so that it needs no quoting in connection strings and configuration files.
        return CreateResult(secrets.token_hex(8), {"value": secrets.token_urlsafe(24)})


class Password(Resource, module="local", name="Password"):
    """24 random bytes as URL-safe text; `pulumi up --replace` renews it."""

    value: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            _PasswordProvider(),
            name,
            {"value": None},
            pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions(additional_secret_outputs=["value"]), opts
            ),
        )
