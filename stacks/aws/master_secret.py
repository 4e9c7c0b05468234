"""A database's master password in Secrets Manager, in the form that RDS gives its own."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import secretsmanager


def declare_secret(
    name: str,
    user: str,
    password: pulumi.Output[str],
    key_arn: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[str]:
    """Declare the secret with the log-in of the master; return its ARN."""
    secret = secretsmanager.Secret(
        f"{name}-master",
        description="The master of the database of the learning platform",
        kms_key_id=key_arn,
        # Time to notice a deletion that was not meant; the longest there is.
        recovery_window_in_days=30,
        opts=opts,
    )
    # Replaced with each password, so not protected as the secret itself may be.
    secretsmanager.SecretVersion(
        f"{name}-master",
        secret_id=secret.arn,
        secret_string=password.apply(lambda text: json.dumps({"username": user, "password": text})),
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(protect=False)),
    )
    return secret.arn
