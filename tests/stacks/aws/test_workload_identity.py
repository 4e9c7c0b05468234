"""What the pods may do in AWS: log in as one role of the database, and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrations.roles import STEPS, WORKERS
from tests.stacks.aws.mocks import whole

DATABASE = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-platform-database"
PREFIX = "platform-pods-"


def policies(environment: str) -> dict[str, list[dict[str, Any]]]:
    """Return the statements of the policies of our pods, by service account."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, policy in whole(environment)[0].of("iam/rolePolicy:RolePolicy").items():
        if name.startswith(PREFIX):
            account = name.removeprefix(PREFIX).rpartition("-")[0]
            found.setdefault(account, []).extend(json.loads(policy.inputs["policy"])["Statement"])
    return found


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_each_service_logs_in_as_the_workers_and_the_steps_as_theirs(environment: str) -> None:
    found = policies(environment)
    del found["roles"]
    assert set(found) == {"steps", "fsrs-optimization", "complexity", "exporter", "scheduler"}
    for account, statements in found.items():
        (statement,) = statements
        role = STEPS if account == "steps" else WORKERS
        places = [DATABASE]
        if (account, environment) == ("complexity", "prod"):
            places.append(f"{DATABASE}-replica")
        assert statement == {
            "Effect": "Allow",
            "Action": ["rds-db:connect"],
            "Resource": [f"{place}/{role}" for place in places],
        }


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_only_the_step_that_makes_the_roles_reads_the_masters_secret(environment: str) -> None:
    secret, key = policies(environment)["roles"]
    assert secret["Action"] == ["secretsmanager:GetSecretValue"]
    assert key["Action"] == ["kms:Decrypt"]
    assert key["Condition"] == {
        "StringEquals": {"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}
    }
    for statement in (secret, key):
        (resource,) = statement["Resource"]
        assert resource.startswith("arn:aws:")
        assert "*" not in resource
    declarations = whole(environment)[0]
    instance = declarations.one("rds/instance:Instance", "platform-database")
    kept = declarations.of("secretsmanager/secret:Secret")
    if kept:
        assert key["Resource"] == [kept["platform-database-master"].inputs["kmsKeyId"]]
    else:
        assert key["Resource"] == [instance["masterUserSecretKmsKeyId"]]


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_every_policy_is_bound_to_the_service_account_of_its_name(environment: str) -> None:
    bound = {
        association.inputs["serviceAccount"]
        for association in whole(environment)[0]
        .of("eks/podIdentityAssociation:PodIdentityAssociation")
        .values()
        if association.inputs["namespace"] == "learning-platform"
    }
    assert bound == set(policies(environment))
