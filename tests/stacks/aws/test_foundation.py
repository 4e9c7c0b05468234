"""The whole of an environment: one provider, tags, no secret where none belongs."""

from __future__ import annotations

import json

import pytest

from stacks.aws.environments import ENVIRONMENTS
from stacks.aws.provider import REQUIRED_TAGS
from tests.stacks.aws.mocks import (
    ACCOUNT,
    ADMINISTRATOR,
    REGION,
    foundation,
    foundation_with,
    settings,
)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_everything_goes_through_the_explicit_provider_of_one_account(environment: str) -> None:
    declarations, _ = foundation(environment)
    for resource in declarations.resources:
        if resource.type.startswith("aws:"):
            assert resource.provider.endswith("::platform-provider-id"), resource.name
    provider = declarations.one("pulumi:providers:aws", "platform-provider")
    assert json.loads(provider["allowedAccountIds"]) == [ACCOUNT]
    assert provider["region"] == REGION
    tags = json.loads(provider["defaultTags"])["tags"]
    assert set(REQUIRED_TAGS) <= set(tags)
    assert tags["environment"] == environment


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_names_are_stable_and_begin_with_that_of_the_foundation(environment: str) -> None:
    declarations, _ = foundation(environment)
    names = [(resource.type, resource.name) for resource in declarations.resources]
    assert len(names) == len(set(names))
    assert all(name == "platform" or name.startswith("platform-") for _, name in names)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_passwords_are_in_what_asks_for_them_and_the_url_and_nowhere_else(environment: str) -> None:
    declarations, values = foundation(environment)
    holders = {
        resource.name
        for resource in declarations.resources
        if "generated-password" in json.dumps(dict(resource.inputs))
    }
    database = {"platform-database", "platform-database-master"}
    replicated = ENVIRONMENTS[environment].database_replica
    assert holders == {"platform-queue-workers"} | (database if replicated else set())
    assert [
        name for name, value in values.items() if "generated-password" in json.dumps(value)
    ] == ["queue_url"]


def test_groups_of_clients_reach_the_cluster_s_api_and_the_endpoints() -> None:
    administrators = [ADMINISTRATOR]
    changed = settings(
        "prod", cluster={"administrators": administrators, "clientGroups": ["sg-0a", "sg-0b"]}
    )
    rules = foundation_with(changed)[0].of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    before = foundation("prod")[0].of("vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    added = {name: rules[name].inputs for name in rules.keys() - before.keys()}
    assert {
        (each["securityGroupId"], each["referencedSecurityGroupId"]) for each in added.values()
    } == {
        (group, client)
        for group in ("sg-cluster", "platform-network-endpoints-id")
        for client in ("sg-0a", "sg-0b")
    }
    assert all(each["fromPort"] == each["toPort"] == 443 for each in added.values())
