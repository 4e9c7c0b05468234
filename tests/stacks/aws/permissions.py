"""What IAM roles of the account may do, and whose pods have them, as the program has it.

Of a policy only what ours use is understood: anything else raises ValueError, and nobody is let in
by a misunderstanding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from tests.kubernetes.identity import Account
from tests.stacks.aws.kinds.cloud import ACCOUNT, Cloud
from tests.stacks.aws.kinds.eks import PodIdentityAssociation

_STATEMENT = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}
_PODS = "pods.eks.amazonaws.com"


def permits(
    cloud: Cloud, role: str, action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Return whether the role of that ARN may do an action to a resource, by its own policies.

    `context` are the condition keys of the request.
    """
    name = role.rpartition("/")[2]
    with cloud.answering:
        client = cloud.client("iam")
        if client.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            raise ValueError(f"{name} has managed policies, whose text is not looked at")
        policies = [
            client.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in client.list_role_policies(RoleName=name)["PolicyNames"]
        ]
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in _statements(policy)
        if _matches(statement["Action"], action.lower(), str.lower)
        and _matches(statement["Resource"], resource)
        and _holds(statement, context or {})
    }
    return effects == {"Allow"}


class PodIdentities(Mapping[Account, str]):
    """The role of each service account, by the associations that are there now.

    A role whose trust policy does not let EKS give it to pods of this account is nobody's.
    """

    def __init__(self, cloud: Callable[[], Cloud]) -> None:
        self._cloud = cloud

    def __getitem__(self, account: Account) -> str:
        return self._roles()[account]

    def __iter__(self) -> Iterator[Account]:
        return iter(self._roles())

    def __len__(self) -> int:
        return len(self._roles())

    def _roles(self) -> dict[Account, str]:
        cloud = self._cloud()
        with cloud.answering:
            associations = [
                made
                for (operation, _), made in cloud.shadow.items()
                if operation == PodIdentityAssociation.operation
            ]
            return {
                (made["namespace"], made["serviceAccount"]): made["roleArn"]
                for made in associations
                if _trusts_pods(cloud, made["roleArn"])
            }


def _trusts_pods(cloud: Cloud, role: str) -> bool:
    found = cloud.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]
    context = {"aws:SourceAccount": ACCOUNT}
    given = {
        action
        for statement in _statements(found["AssumeRolePolicyDocument"])
        if statement["Effect"] == "Allow"
        and statement["Principal"] == {"Service": _PODS}
        and _holds(statement, context)
        for action in _listed(statement["Action"])
    }
    return given >= {"sts:AssumeRole", "sts:TagSession"}


def _statements(policy: dict[str, Any] | str) -> list[dict[str, Any]]:
    document = json.loads(policy) if isinstance(policy, str) else policy
    for statement in document["Statement"]:
        if unknown := statement.keys() - _STATEMENT:
            raise ValueError(f"the stand-in for IAM does not know {', '.join(unknown)}")
    return document["Statement"]


def _holds(statement: dict[str, Any], context: Mapping[str, str]) -> bool:
    conditions = statement.get("Condition", {})
    if conditions.keys() - {"StringEquals"}:
        raise ValueError(f"the stand-in for IAM does not know the conditions {conditions}")
    wanted = conditions.get("StringEquals", {})
    return all(context.get(key) in _listed(value) for key, value in wanted.items())


def _matches(
    patterns: str | list[str], value: str, fold: Callable[[str], str] = lambda text: text
) -> bool:
    # IAM's wildcards are * and ?, and a bracket is itself.
    return any(
        fnmatchcase(value, fold(pattern).replace("[", "[[]")) for pattern in _listed(patterns)
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
