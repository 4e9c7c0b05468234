"""Rules for AWS: encryption, nothing public, durable data, tags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stacks.policies.rule import UNKNOWN, Resource, Surroundings, known_list, known_map, rule

INSTANCE = "aws:rds/instance:Instance"
REPLICATION_GROUP = "aws:elasticache/replicationGroup:ReplicationGroup"
CLUSTER = "aws:eks/cluster:Cluster"
REPOSITORY = "aws:ecr/repository:Repository"
LOG_GROUP = "aws:cloudwatch/logGroup:LogGroup"
KEY = "aws:kms/key:Key"
KEPT_SECRET = "aws:secretsmanager/secret:Secret"  # noqa: S105 -- a type
PROVIDER = "pulumi:providers:aws"

REQUIRED_TAGS = ("environment", "managed-by", "project", "stack")
EVERYBODY = ("0.0.0.0/0", "::/0")
MINIMUM_BACKUP_DAYS = 7


@rule("encryption-at-rest", "data is encrypted, with a key of ours", INSTANCE, REPLICATION_GROUP)
def encryption_at_rest(resource: Resource, _: Surroundings) -> Iterator[str]:
    database = resource.type == INSTANCE
    flag = "storageEncrypted" if database else "atRestEncryptionEnabled"
    if resource.lacks(flag):
        yield f"{flag} is not true"
    # A replica is encrypted as its source is.
    replica = resource.given("replicateSourceDb") is not None
    if resource.given("kmsKeyId") is None and not replica:
        yield "kmsKeyId is not given"


@rule("encryption-of-secrets", "secrets of the cluster are encrypted", CLUSTER)
def encryption_of_secrets(resource: Resource, _: Surroundings) -> Iterator[str]:
    config = resource.given("encryptionConfig")
    if config is UNKNOWN:
        return
    if not config or "secrets" not in known_list(config.get("resources")):
        yield "encryptionConfig does not cover secrets"


@rule("encryption-of-images", "images are encrypted with a key of ours", REPOSITORY)
def encryption_of_images(resource: Resource, _: Surroundings) -> Iterator[str]:
    configurations = resource.given("encryptionConfigurations")
    if configurations is UNKNOWN:
        return
    kinds = [each.get("encryptionType") for each in known_list(configurations)]
    if kinds != ["KMS"]:
        yield "encryptionConfigurations is not KMS"


@rule("encryption-of-logs", "logs are encrypted and not kept for ever", LOG_GROUP)
def encryption_of_logs(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.given("kmsKeyId") is None:
        yield "kmsKeyId is not given"
    if not resource.given("retentionInDays"):
        yield "retentionInDays is not given"


@rule("encryption-in-transit", "Valkey takes TLS only", REPLICATION_GROUP)
def encryption_in_transit(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.lacks("transitEncryptionEnabled"):
        yield "transitEncryptionEnabled is not true"
    if resource.lacks("transitEncryptionMode", "required"):
        yield "transitEncryptionMode is not required"


@rule("database-tls", "Postgres takes TLS only", "aws:rds/parameterGroup:ParameterGroup")
def database_tls(resource: Resource, _: Surroundings) -> Iterator[str]:
    if _parameter(resource, "rds.force_ssl") not in ("1", UNKNOWN):
        yield "rds.force_ssl is not 1"


@rule(
    "queue-keeps-jobs",
    "Valkey never evicts: an evicted key is a lost job",
    "aws:elasticache/parameterGroup:ParameterGroup",
)
def queue_keeps_jobs(resource: Resource, _: Surroundings) -> Iterator[str]:
    if _parameter(resource, "maxmemory-policy") not in ("noeviction", UNKNOWN):
        yield "maxmemory-policy is not noeviction"


@rule("key-rotation", "keys are rotated", KEY)
def key_rotation(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.lacks("enableKeyRotation"):
        yield "enableKeyRotation is not true"


@rule("no-public-database", "a database has no public address", INSTANCE)
def no_public_database(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.lacks("publiclyAccessible", wanted=False):
        yield "publiclyAccessible is not false"


@rule(
    "no-password-in-state",
    "RDS keeps the master password where it may, processes log in by IAM",
    INSTANCE,
)
def no_password_in_state(resource: Resource, surroundings: Surroundings) -> Iterator[str]:
    if resource.lacks("iamDatabaseAuthenticationEnabled"):
        yield "iamDatabaseAuthenticationEnabled is not true"
    if resource.given("replicateSourceDb") is not None:
        if resource.given("password") is not None:
            yield "password is given"
    elif surroundings.replicated:
        # RDS makes no replica of a database whose password it manages.
        if resource.given("manageMasterUserPassword"):
            yield "manageMasterUserPassword is given, which allows no replica"
    else:
        if resource.given("password") is not None:
            yield "password is given"
        if resource.lacks("manageMasterUserPassword"):
            yield "manageMasterUserPassword is not true"


@rule("encryption-of-passwords", "secrets are encrypted with a key of ours", KEPT_SECRET)
def encryption_of_passwords(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.given("kmsKeyId") is None:
        yield "kmsKeyId is not given"


@rule(
    "groups-name-groups",
    "whoever may come in is named by a security group, never by an address",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "aws:ec2/securityGroup:SecurityGroup",
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
    "aws:ec2/securityGroupRule:SecurityGroupRule",
)
def groups_name_groups(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.type == "aws:ec2/securityGroupRule:SecurityGroupRule":
        rules = [resource.inputs] if resource.given("type") != "egress" else []
    elif "ingressRule" in resource.type or "IngressRule" in resource.type:
        rules = [resource.inputs]
    else:
        rules = known_list(resource.given("ingress"))
    for each in rules:
        for key in ("cidrIpv4", "cidrIpv6", "cidrBlocks", "ipv6CidrBlocks", "prefixListId"):
            for address in known_list(each.get(key)):
                yield f"lets in {address}"


@rule("no-open-cluster", "the cluster's API is not open to everybody", CLUSTER)
def no_open_cluster(resource: Resource, _: Surroundings) -> Iterator[str]:
    vpc = resource.given("vpcConfig")
    if vpc is UNKNOWN or vpc is None:
        return
    cidrs = vpc.get("publicAccessCidrs")
    # EKS opens the API to everybody where it is public and no networks are given.
    if vpc.get("endpointPublicAccess", True) is True and not cidrs:
        yield "endpointPublicAccess without publicAccessCidrs"
    for cidr in known_list(cidrs):
        if cidr in EVERYBODY:
            yield f"publicAccessCidrs has {cidr}"


@rule("cluster-logs", "the control plane is logged, audit first", CLUSTER)
def cluster_logs(resource: Resource, _: Surroundings) -> Iterator[str]:
    types = resource.given("enabledClusterLogTypes")
    if types is not UNKNOWN and not {"audit", "authenticator"} <= set(known_list(types)):
        yield "enabledClusterLogTypes lacks audit or authenticator"


@rule("images-as-built", "images are scanned and never overwritten", REPOSITORY)
def images_as_built(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.lacks("imageTagMutability", "IMMUTABLE"):
        yield "imageTagMutability is not IMMUTABLE"
    scanning = resource.given("imageScanningConfiguration")
    if scanning is not UNKNOWN and known_map(scanning).get("scanOnPush") is not True:
        yield "scanOnPush is not true"


@rule("backups", "what holds data is backed up, and leaves a last snapshot", INSTANCE)
def backups(resource: Resource, _: Surroundings) -> Iterator[str]:
    if resource.given("replicateSourceDb") is not None:
        return
    days = resource.given("backupRetentionPeriod")
    if days is not UNKNOWN and (days or 0) < MINIMUM_BACKUP_DAYS:
        yield f"backupRetentionPeriod is below {MINIMUM_BACKUP_DAYS} days"
    if resource.lacks("skipFinalSnapshot", wanted=False):
        yield "skipFinalSnapshot is not false"


@rule("queue-snapshots", "the queue's store is saved daily", REPLICATION_GROUP)
def queue_snapshots(resource: Resource, _: Surroundings) -> Iterator[str]:
    days = resource.given("snapshotRetentionLimit")
    if days is not UNKNOWN and not days:
        yield "snapshotRetentionLimit is not given"


@rule(
    "durable",
    "in prod, what holds data is protected from deletion and survives a zone",
    INSTANCE,
    REPLICATION_GROUP,
    CLUSTER,
    REPOSITORY,
    KEY,
)
def durable(resource: Resource, surroundings: Surroundings) -> Iterator[str]:
    if not surroundings.durable or resource.given("replicateSourceDb") is not None:
        return
    if not resource.protected:
        yield "is not protected in the state"
    wanted: Mapping[str, Mapping[str, object]] = {
        INSTANCE: {"deletionProtection": True, "multiAz": True, "deleteAutomatedBackups": False},
        REPLICATION_GROUP: {"automaticFailoverEnabled": True, "multiAzEnabled": True},
        CLUSTER: {"deletionProtection": True},
        REPOSITORY: {"forceDelete": False},
    }
    for key, value in wanted.get(resource.type, {}).items():
        if resource.lacks(key, value):
            yield f"{key} is not {str(value).lower()}"


@rule("tags", "everything says whose it is, by the provider's default tags", PROVIDER)
def tags(resource: Resource, _: Surroundings) -> Iterator[str]:
    given = resource.given("defaultTags")
    if given is UNKNOWN:
        return
    # A provider's structured inputs are JSON on the wire.
    structured: dict[str, Any] = json.loads(given) if isinstance(given, str) else (given or {})
    for tag in REQUIRED_TAGS:
        if not structured.get("tags", {}).get(tag):
            yield f"defaultTags lacks {tag}"


@rule("one-account", "a stack cannot be applied to another account by mistake", PROVIDER)
def one_account(resource: Resource, _: Surroundings) -> Iterator[str]:
    if not resource.given("allowedAccountIds"):
        yield "allowedAccountIds is not given"


def _parameter(resource: Resource, name: str) -> object:
    parameters = resource.given("parameters")
    if parameters is UNKNOWN:
        return UNKNOWN
    for parameter in known_list(parameters):
        if parameter is UNKNOWN:
            return UNKNOWN
        if parameter.get("name") == name:
            return parameter.get("value")
    return None


RULES = (
    encryption_at_rest,
    encryption_of_secrets,
    encryption_of_images,
    encryption_of_logs,
    encryption_in_transit,
    database_tls,
    queue_keeps_jobs,
    key_rotation,
    no_public_database,
    no_password_in_state,
    encryption_of_passwords,
    groups_name_groups,
    no_open_cluster,
    cluster_logs,
    images_as_built,
    backups,
    queue_snapshots,
    durable,
    tags,
    one_account,
)
