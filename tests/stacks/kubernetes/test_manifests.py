"""Everything that staging and prod declare in their clusters, against the schemas and the rules.

The real API server sees the same in the tests of the engine; this takes a moment only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate
import pytest

from stacks.kubernetes.namespaces import APPLICATIONS
from stacks.policies import Resource, Surroundings, violations
from stacks.policies.kubernetes import WORKLOADS
from tests.stacks.aws.mocks import Declared, whole
from tests.stacks.custom_resources import problems

ENVIRONMENTS = ("staging", "prod")
KUBERNETES_VERSION = "1.35"
_SIGNATURE = "4dabf18193072939515e22adb298388d"
RELEASE = "kubernetes:helm.sh/v3:Release"


def plain(value: Any) -> Any:
    """Return inputs with whole numbers as such, which have a fraction on the wire, and secrets."""
    if isinstance(value, Mapping):
        if _SIGNATURE in value:
            return plain(value["value"])
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def declared(environment: str) -> list[Declared]:
    resources = whole(environment)[0].resources
    return [each for each in resources if each.type.startswith("kubernetes:")]


def objects(environment: str) -> list[dict[str, Any]]:
    """Return the objects as the API server gets them."""
    return [plain(each.inputs) for each in declared(environment) if each.type != RELEASE]


def pods(environment: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the specification of the pods of each workload."""
    for each in declared(environment):
        if each.type in WORKLOADS:
            found = plain(each.inputs)
            for key in WORKLOADS[each.type]:
                found = found[key]
            yield each.name, found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_object_is_what_its_schema_takes(environment: str) -> None:
    for document in objects(environment):
        try:
            kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            assert list(problems(document)) == [], document["metadata"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_object_has_a_name_and_a_namespace_of_its_own(environment: str) -> None:
    seen = [
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in objects(environment)
    ]
    assert len(seen) == len(set(seen))
    assert {kind for kind, namespace, _ in seen if namespace is None} <= {
        "Namespace",
        "StorageClass",
    }


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_everything_keeps_the_rules(environment: str) -> None:
    prod = environment == "prod"
    surroundings = Surroundings(durable=prod, replicated=prod)
    found = [
        problem
        for each in whole(environment)[0].resources
        for problem in violations(
            Resource(each.type, each.name, each.inputs, each.protect), surroundings
        )
    ]
    assert found == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_everything_goes_through_the_provider_of_the_stacks_cluster(environment: str) -> None:
    for each in declared(environment):
        assert "platform-kubernetes" in each.provider, each.name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_password_of_the_queue_is_in_one_secret_and_in_no_other_object(
    environment: str,
) -> None:
    holders = [
        (each["kind"], each["metadata"]["name"])
        for each in objects(environment)
        if "generated-password" in json.dumps(each)
    ]
    assert holders == [("Secret", "queue")]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_secret_and_account_that_a_pod_names_is_declared(environment: str) -> None:
    made = {(each["kind"], each["metadata"]["name"]) for each in objects(environment)}
    for name, pod in pods(environment):
        assert ("ServiceAccount", pod["serviceAccountName"]) in made, name
        for variable in pod["containers"][0]["env"]:
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert ("Secret", reference["name"]) in made, name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_account_of_a_pod_has_a_role_in_aws_and_no_token_of_the_cluster(
    environment: str,
) -> None:
    associations = {
        (each.inputs["namespace"], each.inputs["serviceAccount"])
        for each in whole(environment)[0]
        .of("eks/podIdentityAssociation:PodIdentityAssociation")
        .values()
    }
    for name, pod in pods(environment):
        assert (APPLICATIONS, pod["serviceAccountName"]) in associations, name
        assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_all_pods_run_the_one_image_by_its_digest(environment: str) -> None:
    images = {pod["containers"][0]["image"] for _, pod in pods(environment)}
    assert len(images) == 1
    (image,) = images
    assert f"learning-platform-{environment}@sha256:" in image
