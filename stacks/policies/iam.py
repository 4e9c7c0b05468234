"""Rules for permissions: no wildcards, nobody unnamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from stacks.policies.rule import Resource, Surroundings, known_list, known_map, rule

IDENTITY_POLICIES = {
    "aws:iam/policy:Policy": "policy",
    "aws:iam/rolePolicy:RolePolicy": "policy",
    "aws:iam/userPolicy:UserPolicy": "policy",
    "aws:iam/groupPolicy:GroupPolicy": "policy",
}
RESOURCE_POLICIES = {
    "aws:ec2/vpcEndpoint:VpcEndpoint": "policy",
    "aws:ecr/repositoryPolicy:RepositoryPolicy": "policy",
    "aws:iam/role:Role": "assumeRolePolicy",
    "aws:kms/key:Key": "policy",
    "aws:s3/bucketPolicy:BucketPolicy": "policy",
    "aws:secretsmanager/secretPolicy:SecretPolicy": "policy",
}
RESOURCELESS = frozenset(
    {
        "cloudwatch:GetMetricData",
        "cloudwatch:GetMetricStatistics",
        "cloudwatch:ListMetrics",
        "tag:GetResources",
    }
)
"""Actions that AWS knows no resource of, by its service authorization reference: reading only."""

WITHOUT_RESOURCES = frozenset(
    {"cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "tag:GetResources"}
)
"""Actions that only read, and that AWS knows no resources for: they take `*` or nothing."""

TOO_MUCH = ("AdministratorAccess", "IAMFullAccess", "PowerUserAccess")


def _allowing(document: Any) -> list[dict[str, Any]]:
    """Return the statements that allow; none where the document is not known yet."""
    if not isinstance(document, str):
        return []
    statements = known_list(json.loads(document).get("Statement"))
    return [each for each in statements if each.get("Effect") == "Allow"]


def _wild(action: str) -> bool:
    return action == "*" or action.endswith(":*")


@rule("no-wildcard-iam", "permissions name actions and resources", *IDENTITY_POLICIES)
def no_wildcard_iam(resource: Resource, _: Surroundings) -> Iterator[str]:
    for statement in _allowing(resource.given(IDENTITY_POLICIES[resource.type])):
        actions = known_list(statement.get("Action"))
        for action in actions:
            if _wild(action):
                yield f"allows the action {action}"
        if "NotAction" in statement or "NotResource" in statement:
            yield "allows all but what it names"
        unbounded = set(known_list(statement.get("Action"))) - RESOURCELESS
        if "*" in known_list(statement.get("Resource")) and unbounded:
            yield "allows actions on every resource"


@rule("no-unnamed-principal", "policies of resources name whom they let in", *RESOURCE_POLICIES)
def no_unnamed_principal(resource: Resource, _: Surroundings) -> Iterator[str]:
    for statement in _allowing(resource.given(RESOURCE_POLICIES[resource.type])):
        principal = statement.get("Principal")
        everybody = principal == "*" or "*" in known_list(known_map(principal).get("AWS"))
        if everybody and not statement.get("Condition"):
            yield "lets in everybody, without a condition"


@rule(
    "no-administrator",
    "no role of the stack may do everything",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "aws:iam/userPolicyAttachment:UserPolicyAttachment",
)
def no_administrator(resource: Resource, _: Surroundings) -> Iterator[str]:
    name = str(resource.given("policyArn")).rsplit("/", 1)[-1]
    if name in TOO_MUCH:
        yield f"attaches {name}"


RULES = (no_wildcard_iam, no_unnamed_principal, no_administrator)
