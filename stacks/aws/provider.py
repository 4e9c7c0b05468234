"""The explicit AWS provider: one account, one region, and the tags that everything carries."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws

REQUIRED_TAGS = ("environment", "managed-by", "project", "stack")


@dataclass(frozen=True)
class AccountArgs:
    """Where a stack lives. The provider refuses credentials of any other account."""

    account_id: str
    region: str
    environment: str
    project: str
    stack: str


def provider(
    name: str, args: AccountArgs, opts: pulumi.ResourceOptions | None = None
) -> pulumi_aws.Provider:
    """Declare the provider that every AWS resource of the stack uses."""
    return pulumi_aws.Provider(
        name,
        region=args.region,
        allowed_account_ids=[args.account_id],
        default_tags=pulumi_aws.ProviderDefaultTagsArgs(
            tags={
                "environment": args.environment,
                "managed-by": "pulumi",
                "project": args.project,
                "stack": args.stack,
            }
        ),
        opts=opts,
    )
