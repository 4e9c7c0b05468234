"""The whole of an environment: one provider, tags, no secret where none belongs."""

from __future__ import annotations

import json

import pytest

from stacks.aws.environments import ENVIRONMENTS
from stacks.aws.provider import REQUIRED_TAGS
from tests.stacks.aws.mocks import ACCOUNT, REGION, foundation


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
def test_the_password_is_in_the_user_and_the_url_and_nowhere_else(environment: str) -> None:
    declarations, values = foundation(environment)
    holders = [
        resource.name
        for resource in declarations.resources
        if "generated-password" in json.dumps(dict(resource.inputs))
    ]
    assert holders == ["platform-queue-workers"]
    assert [
        name for name, value in values.items() if "generated-password" in json.dumps(value)
    ] == ["queue_url"]
