"""The exporter of CloudWatch's metrics: what it may do, what it asks for, how it is scraped."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from stacks.aws.provider import REQUIRED_TAGS
from stacks.kubernetes.cloudwatch import (
    ASK_SECONDS,
    METRICS,
    PERIOD_SECONDS,
    exporter_configuration,
    metric_names,
    read_policy,
)
from stacks.policies import Resource, Surroundings, violations
from tests.stacks.aws.mocks import ACCOUNT, REGION, Declarations
from tests.stacks.inputs import plain
from tests.stacks.test_monitoring import monitored, of_kind, values


@pytest.fixture(scope="module")
def prod() -> Declarations:
    return monitored()


def statements() -> list[dict[str, Any]]:
    return json.loads(read_policy(REGION))["Statement"]


def test_the_role_reads_metrics_and_tags_of_one_region_and_nothing_else() -> None:
    (statement,) = statements()
    assert set(statement["Action"]) == {
        "cloudwatch:GetMetricData",
        "cloudwatch:ListMetrics",
        "tag:GetResources",
    }
    assert statement["Condition"] == {"StringEquals": {"aws:RequestedRegion": REGION}}


def test_the_wildcard_keeps_the_rules_for_these_actions_and_for_no_other() -> None:
    def broken(policy: str) -> list[str]:
        resource = Resource("aws:iam/rolePolicy:RolePolicy", "it", {"policy": policy})
        return violations(resource, Surroundings(durable=True))

    assert broken(read_policy(REGION)) == []
    widened = json.loads(read_policy(REGION))
    widened["Statement"][0]["Action"].append("s3:GetObject")
    assert len(broken(json.dumps(widened))) == 1


def test_only_its_own_pods_take_the_role(prod: Declarations) -> None:
    (association,) = prod.of("eks/podIdentityAssociation:PodIdentityAssociation").values()
    assert association.inputs["namespace"] == "monitoring"
    account = association.inputs["serviceAccount"]
    chart = values(prod, "cloudwatch-exporter")
    assert chart["serviceAccount"]["name"] == account == "cloudwatch-exporter"
    (role,) = prod.of("iam/role:Role").values()
    trusted = json.loads(role.inputs["assumeRolePolicy"])["Statement"][0]
    assert trusted["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert trusted["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def test_instances_are_found_by_tags_that_everything_of_the_stack_carries() -> None:
    document = yaml.safe_load(exporter_configuration("prod", REGION))
    for job in document["discovery"]["jobs"]:
        assert job["regions"] == [REGION]
        tags = {each["key"]: each["value"] for each in job["searchTags"]}
        assert set(tags) <= set(REQUIRED_TAGS)
        # Anchored: `prod` is not also `preprod`.
        assert tags == {"project": "^learning-platform$", "stack": "^prod$"}


def test_the_storage_the_load_and_the_lag_of_both_are_asked_for() -> None:
    assert {"FreeStorageSpace", "CPUUtilization", "DatabaseConnections", "ReplicaLag"} <= set(
        METRICS["AWS/RDS"]
    )
    assert {"EngineCPUUtilization", "DatabaseMemoryUsagePercentage", "Evictions"} <= set(
        METRICS["AWS/ElastiCache"]
    )
    document = yaml.safe_load(exporter_configuration("prod", REGION))
    asked = {
        job["type"]: {each["name"]: each["statistics"] for each in job["metrics"]}
        for job in document["discovery"]["jobs"]
    }
    assert asked == METRICS


def test_a_value_is_within_what_is_asked_for_and_asked_for_no_more_often_than_it_is_paid() -> None:
    document = yaml.safe_load(exporter_configuration("prod", REGION))
    for job in document["discovery"]["jobs"]:
        assert job["period"] == PERIOD_SECONDS <= job["length"]
    chart = values(monitored(), "cloudwatch-exporter")
    assert chart["extraArgs"]["scraping-interval"] == ASK_SECONDS >= 5 * PERIOD_SECONDS


def test_the_names_are_those_the_exporter_gives() -> None:
    # https://github.com/prometheus-community/yet-another-cloudwatch-exporter: an underscore where
    # an upper case letter follows a lower case one, and all in lower case.
    assert {
        "aws_rds_free_storage_space_minimum",
        "aws_rds_cpuutilization_average",
        "aws_rds_maximum_used_transaction_ids_maximum",
        "aws_elasticache_engine_cpuutilization_average",
        "aws_elasticache_database_memory_usage_percentage_maximum",
    } <= set(metric_names())


def test_the_pod_is_restricted_and_scraped_on_the_port_that_the_chart_gives(
    prod: Declarations,
) -> None:
    chart = values(prod, "cloudwatch-exporter")
    assert chart["podSecurityContext"]["runAsNonRoot"]
    assert chart["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not chart["serviceAccount"]["automountServiceAccountToken"]
    monitor = of_kind(prod, "PodMonitor")["cloudwatch-exporter"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == chart["portName"]
    wanted = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
    assert wanted == chart["nameOverride"]
    assert monitor["metadata"]["namespace"] == "monitoring"


def test_it_starts_once_its_role_can_be_taken(prod: Declarations) -> None:
    (release,) = (
        each
        for each in prod.resources
        if each.type == "kubernetes:helm.sh/v3:Release"
        and plain(each.inputs)["name"] == "cloudwatch-exporter"
    )
    assert any("PodIdentityAssociation" in urn for urn in release.depends_on)
