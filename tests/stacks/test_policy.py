"""The rules: each has examples that break it, and everything we declare keeps all of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pulumi.output import Unknown

from stacks.policies import RULES, UNKNOWN, Resource, Surroundings, violations
from stacks.policies.aws import REQUIRED_TAGS
from stacks.policies.kubernetes import WORKLOADS
from stacks.policy import plain
from tests.stacks.aws.mocks import foundation_with, settings, whole
from tests.stacks.inputs import plain as readable

PROD, STAGING = Surroundings(durable=True), Surroundings(durable=False)
REPLICATED = Surroundings(durable=True, replicated=True)

INSTANCE: dict[str, Any] = {
    "storageEncrypted": True,
    "kmsKeyId": "key",
    "publiclyAccessible": False,
    "manageMasterUserPassword": True,
    "iamDatabaseAuthenticationEnabled": True,
    "backupRetentionPeriod": 30,
    "skipFinalSnapshot": False,
    "deletionProtection": True,
    "multiAz": True,
    "deleteAutomatedBackups": False,
}
GROUP: dict[str, Any] = {
    "atRestEncryptionEnabled": True,
    "kmsKeyId": "key",
    "transitEncryptionEnabled": True,
    "transitEncryptionMode": "required",
    "snapshotRetentionLimit": 7,
    "automaticFailoverEnabled": True,
    "multiAzEnabled": True,
}
CLUSTER: dict[str, Any] = {
    "encryptionConfig": {"resources": ["secrets"]},
    "vpcConfig": {"endpointPublicAccess": False},
    "enabledClusterLogTypes": ["audit", "authenticator"],
    "deletionProtection": True,
}
REPOSITORY: dict[str, Any] = {
    "encryptionConfigurations": [{"encryptionType": "KMS", "kmsKey": "key"}],
    "imageTagMutability": "IMMUTABLE",
    "imageScanningConfiguration": {"scanOnPush": True},
    "forceDelete": False,
}
CONTAINER: dict[str, Any] = {
    "name": "worker",
    "image": f"registry.test/workers@sha256:{'0123456789abcdef' * 4}",
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "securityContext": {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}


def deployment(container: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    changed = {**CONTAINER, **(container or {})}
    return {"spec": {"template": {"spec": {"containers": [changed], **pod}}}}


def allowing(**statement: Any) -> str:
    return json.dumps({"Statement": [{"Effect": "Allow", **statement}]})


RELEASE: dict[str, Any] = {
    "version": "1.2.3",
    "repositoryOpts": {"repo": "https://charts.test"},
    "values": {"admin": {"existingSecret": "admin", "passwordKey": "password"}},
}
ALB = "alb.ingress.kubernetes.io"
INGRESS_ANNOTATIONS = {
    f"{ALB}/scheme": "internal",
    f"{ALB}/certificate-arn": "arn",
    f"{ALB}/listen-ports": '[{"HTTPS": 443}]',
    f"{ALB}/inbound-cidrs": "10.0.0.0/8",
}


def ingress(**changed: str) -> dict[str, Any]:
    added = {f"{ALB}/{key.replace('_', '-')}": value for key, value in changed.items()}
    return {"metadata": {"annotations": {**INGRESS_ANNOTATIONS, **added}}}


def with_variable(name: str, value: Any) -> dict[str, Any]:
    return deployment({"env": [{"name": name, "value": value}]})


DB, QUEUE = "aws:rds/instance:Instance", "aws:elasticache/replicationGroup:ReplicationGroup"
EKS, ECR = "aws:eks/cluster:Cluster", "aws:ecr/repository:Repository"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
CHART = "kubernetes:helm.sh/v3:Release"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
NAMESPACE = "kubernetes:core/v1:Namespace"
STORAGE = "kubernetes:storage.k8s.io/v1:StorageClass"
WAY_IN = "kubernetes:networking.k8s.io/v1:Ingress"
TAGS = json.dumps({"tags": dict.fromkeys(REQUIRED_TAGS, "x")})

OUR_WORKLOADS = {
    "kubernetes:apps/v1:Deployment",
    "kubernetes:batch/v1:CronJob",
    "kubernetes:batch/v1:Job",
}

KEEPS: list[tuple[str, dict[str, Any]]] = [
    (DB, INSTANCE),
    (DB, {**INSTANCE, "kmsKeyId": UNKNOWN}),
    (QUEUE, GROUP),
    (EKS, CLUSTER),
    (ECR, REPOSITORY),
    (DEPLOYMENT, deployment()),
    (INGRESS, {"referencedSecurityGroupId": UNKNOWN}),
    ("aws:iam/rolePolicy:RolePolicy", {"policy": UNKNOWN}),
    (DEPLOYMENT, with_variable("DATABASE_URL", "postgresql://workers@db.test:5432/app")),
    (DEPLOYMENT, with_variable("DATABASE_MASTER_SECRET_ARN", "arn:aws:secretsmanager:test")),
    (DEPLOYMENT, with_variable("REDIS_PASSWORD", UNKNOWN)),
    (
        DEPLOYMENT,
        deployment(
            {"env": [{"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "q"}}}]}
        ),
    ),
    (CHART, RELEASE),
    (CHART, {**RELEASE, "values": UNKNOWN}),
    (CONFIG_MAP, {"data": {"prometheus.yml": "url_file: /etc/secrets/url"}}),
    (NAMESPACE, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}),
    (STORAGE, {"parameters": {"encrypted": "true"}}),
    (WAY_IN, ingress()),
    (WAY_IN, {"metadata": {"annotations": UNKNOWN}}),
]

BREAKS: list[tuple[str, str, dict[str, Any]]] = [
    ("encryption-at-rest", DB, {**INSTANCE, "storageEncrypted": False}),
    ("encryption-at-rest", DB, {**INSTANCE, "kmsKeyId": None}),
    ("encryption-at-rest", QUEUE, {**GROUP, "atRestEncryptionEnabled": False}),
    ("encryption-of-secrets", EKS, {**CLUSTER, "encryptionConfig": None}),
    ("encryption-of-images", ECR, {**REPOSITORY, "encryptionConfigurations": []}),
    ("encryption-of-logs", "aws:cloudwatch/logGroup:LogGroup", {"retentionInDays": 7}),
    ("encryption-of-logs", "aws:cloudwatch/logGroup:LogGroup", {"kmsKeyId": "key"}),
    ("encryption-in-transit", QUEUE, {**GROUP, "transitEncryptionMode": "preferred"}),
    (
        "database-tls",
        "aws:rds/parameterGroup:ParameterGroup",
        {"parameters": [{"name": "rds.force_ssl", "value": "0"}]},
    ),
    (
        "queue-keeps-jobs",
        "aws:elasticache/parameterGroup:ParameterGroup",
        {"parameters": [{"name": "maxmemory-policy", "value": "allkeys-lru"}]},
    ),
    ("key-rotation", "aws:kms/key:Key", {}),
    ("no-public-database", DB, {**INSTANCE, "publiclyAccessible": True}),
    ("no-password-in-state", DB, {**INSTANCE, "password": "x"}),
    ("no-password-in-state", DB, {**INSTANCE, "manageMasterUserPassword": None}),
    ("no-password-in-state", DB, {**INSTANCE, "iamDatabaseAuthenticationEnabled": False}),
    ("encryption-of-passwords", "aws:secretsmanager/secret:Secret", {}),
    ("groups-name-groups", INGRESS, {"cidrIpv4": "0.0.0.0/0"}),
    ("groups-name-groups", INGRESS, {"cidrIpv4": "10.0.0.0/8"}),
    (
        "groups-name-groups",
        "aws:ec2/securityGroup:SecurityGroup",
        {"ingress": [{"ipv6CidrBlocks": ["::/0"]}]},
    ),
    (
        "groups-name-groups",
        "aws:ec2/securityGroupRule:SecurityGroupRule",
        {"type": "ingress", "cidrBlocks": ["0.0.0.0/0"]},
    ),
    ("no-open-cluster", EKS, {**CLUSTER, "vpcConfig": {"endpointPublicAccess": True}}),
    ("no-open-cluster", EKS, {**CLUSTER, "vpcConfig": {"publicAccessCidrs": ["0.0.0.0/0"]}}),
    ("cluster-logs", EKS, {**CLUSTER, "enabledClusterLogTypes": ["api"]}),
    ("images-as-built", ECR, {**REPOSITORY, "imageTagMutability": "MUTABLE"}),
    ("images-as-built", ECR, {**REPOSITORY, "imageScanningConfiguration": None}),
    ("backups", DB, {**INSTANCE, "backupRetentionPeriod": 0}),
    ("backups", DB, {**INSTANCE, "skipFinalSnapshot": True}),
    ("queue-snapshots", QUEUE, {**GROUP, "snapshotRetentionLimit": 0}),
    ("durable", DB, {**INSTANCE, "deletionProtection": False}),
    ("durable", DB, {**INSTANCE, "multiAz": False}),
    ("durable", QUEUE, {**GROUP, "multiAzEnabled": False}),
    ("durable", ECR, {**REPOSITORY, "forceDelete": True}),
    ("tags", "pulumi:providers:aws", {"allowedAccountIds": "[]", "defaultTags": "{}"}),
    ("one-account", "pulumi:providers:aws", {"defaultTags": TAGS}),
    (
        "no-wildcard-iam",
        "aws:iam/rolePolicy:RolePolicy",
        {"policy": allowing(Action="*", Resource="arn:aws:s3:::b")},
    ),
    (
        "no-wildcard-iam",
        "aws:iam/policy:Policy",
        {"policy": allowing(Action=["s3:*"], Resource="arn:aws:s3:::b")},
    ),
    (
        "no-wildcard-iam",
        "aws:iam/policy:Policy",
        {"policy": allowing(Action=["s3:GetObject"], Resource=["*"])},
    ),
    (
        "no-wildcard-iam",
        "aws:iam/policy:Policy",
        {"policy": allowing(Action=["tag:GetResources", "s3:GetObject"], Resource=["*"])},
    ),
    (
        "no-wildcard-iam",
        "aws:iam/policy:Policy",
        {"policy": allowing(NotAction=["iam:CreateUser"], Resource=["arn:aws:s3:::b"])},
    ),
    (
        "no-unnamed-principal",
        "aws:iam/role:Role",
        {"assumeRolePolicy": allowing(Action="sts:AssumeRole", Principal={"AWS": "*"})},
    ),
    (
        "no-unnamed-principal",
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        {"policy": allowing(Action="*", Resource="*", Principal="*")},
    ),
    (
        "no-administrator",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
    ),
    ("limits", DEPLOYMENT, deployment({"resources": {}})),
    ("limits", DEPLOYMENT, deployment({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}})),
    ("known-image", DEPLOYMENT, deployment({"image": "registry.test:5000/workers"})),
    ("known-image", DEPLOYMENT, deployment({"image": "workers:latest"})),
    ("known-image", DEPLOYMENT, deployment({"image": "workers:1.2.3"})),
    ("known-image", DEPLOYMENT, deployment({"image": "workers@sha256:0123"})),
    ("no-secret-in-sight", DEPLOYMENT, with_variable("REDIS_PASSWORD", "hunter2")),
    ("no-secret-in-sight", DEPLOYMENT, with_variable("AWS_SECRET_ACCESS_KEY", "hunter2")),
    ("no-secret-in-sight", DEPLOYMENT, with_variable("REDIS_URL", "rediss://w:hunter2@host:6379")),
    (
        "no-secret-in-sight",
        DEPLOYMENT,
        deployment({"args": ["--url", "postgresql://w:hunter2@host/app"]}),
    ),
    ("no-secret-in-sight", DEPLOYMENT, deployment({"command": ["run", "AKIAIOSFODNN7EXAMPLE"]})),
    ("no-secret-in-sight", CONFIG_MAP, {"data": {"key": "-----BEGIN RSA PRIVATE KEY-----"}}),
    (
        "no-secret-in-sight",
        CHART,
        {**RELEASE, "values": {"grafana": {"adminPassword": "hunter2"}}},
    ),
    (
        "no-secret-in-sight",
        CHART,
        {**RELEASE, "values": {"targets": [{"url": "https://u:hunter2@host"}]}},
    ),
    ("pinned-chart", CHART, {**RELEASE, "version": None}),
    ("pinned-chart", CHART, {**RELEASE, "version": "~1.2"}),
    ("pinned-chart", CHART, {**RELEASE, "repositoryOpts": {"repo": "http://charts.test"}}),
    ("pod-standard", NAMESPACE, {"metadata": {"name": "default"}}),
    ("encrypted-volumes", STORAGE, {"parameters": {"type": "gp3"}}),
    ("private-ingress", WAY_IN, ingress(scheme="internet-facing")),
    ("private-ingress", WAY_IN, ingress(certificate_arn="")),
    ("private-ingress", WAY_IN, ingress(listen_ports='[{"HTTP": 80}, {"HTTPS": 443}]')),
    ("private-ingress", WAY_IN, ingress(inbound_cidrs="10.0.0.0/8, 0.0.0.0/0")),
    ("private-ingress", WAY_IN, {"metadata": {"annotations": {}}}),
    ("restricted-pod", DEPLOYMENT, deployment({"securityContext": {}})),
    ("restricted-pod", DEPLOYMENT, deployment(hostNetwork=True)),
    ("restricted-pod", DEPLOYMENT, deployment(volumes=[{"hostPath": {"path": "/"}}])),
]


def broken(resource: Resource, surroundings: Surroundings = PROD) -> set[str]:
    return {rule.name for rule in RULES if list(rule.violations(resource, surroundings))}


@pytest.mark.parametrize(("type_", "inputs"), KEEPS)
def test_what_keeps_the_rules_or_is_not_known_yet_passes(
    type_: str, inputs: dict[str, Any]
) -> None:
    assert violations(Resource(type_, "good", inputs, protected=True), PROD) == []


@pytest.mark.parametrize(("rule", "type_", "inputs"), BREAKS)
def test_what_breaks_a_rule_breaks_just_that_rule_and_is_named(
    rule: str, type_: str, inputs: dict[str, Any]
) -> None:
    resource = Resource(type_, "bad", inputs, protected=True)
    assert broken(resource) == {rule}
    assert all(text.startswith("bad: ") for text in violations(resource, PROD))


def test_every_rule_has_an_example_that_breaks_it() -> None:
    assert {rule for rule, _, _ in BREAKS} == {rule.name for rule in RULES}


def test_data_of_prod_must_be_protected_in_the_state_and_data_of_staging_need_not() -> None:
    unprotected = Resource(DB, "database", {**INSTANCE, "multiAz": False}, protected=False)
    assert broken(unprotected, PROD) == {"durable"}
    assert broken(unprotected, STAGING) == set()


def test_a_database_with_a_replica_has_a_password_that_rds_does_not_manage() -> None:
    managed = Resource(DB, "bad", INSTANCE, protected=True)
    assert broken(managed, REPLICATED) == {"no-password-in-state"}
    ours = {**INSTANCE, "manageMasterUserPassword": None, "password": "secret"}
    assert broken(Resource(DB, "good", ours, protected=True), REPLICATED) == set()
    replica = {**ours, "replicateSourceDb": "good"}
    assert broken(Resource(DB, "bad", replica), REPLICATED) == {"no-password-in-state"}


@pytest.mark.parametrize("type_", WORKLOADS)
def test_every_kind_of_workload_is_looked_into(type_: str) -> None:
    inputs: dict[str, Any] = {"containers": [{"name": "c", "image": "c:latest"}]}
    for key in reversed(WORKLOADS[type_]):
        inputs = {key: inputs}
    assert broken(Resource(type_, "bad", inputs)) == {"limits", "known-image", "restricted-pod"}


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_everything_that_the_components_declare_keeps_the_rules(environment: str) -> None:
    prod = environment == "prod"
    surroundings = Surroundings(durable=prod, replicated=prod)
    declared = whole(environment)[0].resources
    assert {each.type for each in declared} >= OUR_WORKLOADS
    found = [
        problem
        for each in declared
        for problem in violations(
            Resource(each.type, each.name, readable(each.inputs), each.protect), surroundings
        )
    ]
    assert found == []


def test_a_public_cluster_for_everybody_is_found_in_what_the_components_declare() -> None:
    changed = settings(
        "staging",
        cluster={
            "administrators": ["arn:aws:iam::123456789012:role/Operators"],
            "publicCidrs": ["8.0.0.0/8"],
        },
    )
    declared = foundation_with(changed)[0].of("eks/cluster:Cluster")["platform-cluster"]
    assert violations(Resource(declared.type, "cluster", declared.inputs), STAGING) == []
    opened = {**declared.inputs, "vpcConfig": {"publicAccessCidrs": ["0.0.0.0/0"]}}
    assert broken(Resource(declared.type, "cluster", opened), STAGING) == {"no-open-cluster"}


def test_what_has_no_resource_to_name_may_name_all() -> None:
    policy = allowing(Action=["tag:GetResources", "cloudwatch:ListMetrics"], Resource=["*"])
    assert violations(Resource("aws:iam/policy:Policy", "read", {"policy": policy}), PROD) == []


def test_inputs_are_taken_over_with_what_is_not_known_marked() -> None:
    assert plain({"a": [Unknown(), {"b": 1}]}) == {"a": [UNKNOWN, {"b": 1}]}
