"""What checkov finds in what staging and prod declare: `python -m tests.stacks.scan CHECKOV`.

Checkov is no dependency of this project, for it is large and pins much; `uv tool install checkov`
has it. Objects of the cluster are given to it as manifests; resources of AWS as a plan of
Terraform, from which Pulumi's provider has its names and properties.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from tests.stacks.aws.mocks import Declared, whole
from tests.stacks.engine import ROOT
from tests.stacks.inputs import plain

ENVIRONMENTS = ("staging", "prod")


@dataclass(frozen=True)
class Explanation:
    """Why a finding stays, on resources whose name begins so, in an environment or in all."""

    check: str
    reason: str
    resource: str = ""
    environment: str = ""

    def covers(self, check: str, resource: str, environment: str) -> bool:
        return (
            self.check == check
            and resource.startswith(self.resource)
            and self.environment in ("", environment)
        )


_NOT_SEEN = (
    "Follows references, which a plan under mocks has not; tests/stacks/aws has a test of it."
)
_SMALL = "Staging is prod in small, and may be lost: stacks/aws/environments.py."
_DATABASE = "aws_db_instance.platform-database"

EXPLAINED = (
    Explanation("CKV2_AWS_5", _NOT_SEEN),
    Explanation("CKV2_AWS_11", _NOT_SEEN),
    Explanation("CKV2_AWS_12", _NOT_SEEN),
    Explanation("CKV2_AWS_19", "The addresses are those of NAT gateways, not of instances."),
    Explanation("CKV2_AWS_30", _NOT_SEEN),
    Explanation(
        "CKV2_AWS_57",
        "RDS rotates its own; with a replica, database.passwordGeneration does, by an update.",
        "aws_secretsmanager_secret.platform-database",
    ),
    Explanation("CKV2_AWS_50", _SMALL, environment="staging"),
    Explanation(
        "CKV_AWS_129", "Its primary logs; it has no clients but one.", f"{_DATABASE}-replica"
    ),
    Explanation("CKV_AWS_136", "Encrypted with AWS's key: what is in an image is no secret."),
    Explanation("CKV_AWS_157", "What reads it reads the primary instead.", f"{_DATABASE}-replica"),
    Explanation("CKV_AWS_157", _SMALL, environment="staging"),
    Explanation("CKV_AWS_293", _SMALL, environment="staging"),
    Explanation("CKV_AWS_338", _SMALL, environment="staging"),
    Explanation("CKV_DOCKER_2", "Kubernetes does not read it: the pods have probes."),
    Explanation("CKV_DOCKER_4", "ADD holds what it fetches against a digest; COPY cannot fetch."),
    Explanation("CKV_DOCKER_7", "Pinned by digest, which is more than a tag."),
    Explanation("CKV_K8S_11", "A limit throttles on processors that idle; requests share them."),
    Explanation("CKV_K8S_35", "The URL of the queue; a file would be as readable to the process."),
    Explanation("CKV_SECRET_4", "The made-up URL of the queue, in the Secret that is its place."),
)
"""Findings that stay."""

_TERRAFORM = {
    "cloudwatch/logGroup:LogGroup": "aws_cloudwatch_log_group",
    "ec2/defaultNetworkAcl:DefaultNetworkAcl": "aws_default_network_acl",
    "ec2/defaultRouteTable:DefaultRouteTable": "aws_default_route_table",
    "ec2/defaultSecurityGroup:DefaultSecurityGroup": "aws_default_security_group",
    "ec2/eip:Eip": "aws_eip",
    "ec2/flowLog:FlowLog": "aws_flow_log",
    "ec2/internetGateway:InternetGateway": "aws_internet_gateway",
    "ec2/natGateway:NatGateway": "aws_nat_gateway",
    "ec2/route:Route": "aws_route",
    "ec2/routeTable:RouteTable": "aws_route_table",
    "ec2/routeTableAssociation:RouteTableAssociation": "aws_route_table_association",
    "ec2/securityGroup:SecurityGroup": "aws_security_group",
    "ec2/subnet:Subnet": "aws_subnet",
    "ec2/vpc:Vpc": "aws_vpc",
    "ec2/vpcEndpoint:VpcEndpoint": "aws_vpc_endpoint",
    "ecr/lifecyclePolicy:LifecyclePolicy": "aws_ecr_lifecycle_policy",
    "ecr/repository:Repository": "aws_ecr_repository",
    "ecr/repositoryPolicy:RepositoryPolicy": "aws_ecr_repository_policy",
    "eks/accessEntry:AccessEntry": "aws_eks_access_entry",
    "eks/accessPolicyAssociation:AccessPolicyAssociation": "aws_eks_access_policy_association",
    "eks/cluster:Cluster": "aws_eks_cluster",
    "eks/podIdentityAssociation:PodIdentityAssociation": "aws_eks_pod_identity_association",
    "elasticache/parameterGroup:ParameterGroup": "aws_elasticache_parameter_group",
    "elasticache/replicationGroup:ReplicationGroup": "aws_elasticache_replication_group",
    "elasticache/subnetGroup:SubnetGroup": "aws_elasticache_subnet_group",
    "elasticache/user:User": "aws_elasticache_user",
    "elasticache/userGroup:UserGroup": "aws_elasticache_user_group",
    "iam/role:Role": "aws_iam_role",
    "iam/rolePolicy:RolePolicy": "aws_iam_role_policy",
    "iam/rolePolicyAttachment:RolePolicyAttachment": "aws_iam_role_policy_attachment",
    "kms/alias:Alias": "aws_kms_alias",
    "kms/key:Key": "aws_kms_key",
    "rds/instance:Instance": "aws_db_instance",
    "secretsmanager/secret:Secret": "aws_secretsmanager_secret",
    "secretsmanager/secretVersion:SecretVersion": "aws_secretsmanager_secret_version",
    "rds/parameterGroup:ParameterGroup": "aws_db_parameter_group",
    "rds/snapshotCopy:SnapshotCopy": "aws_db_snapshot_copy",
    "rds/subnetGroup:SubnetGroup": "aws_db_subnet_group",
    "vpc/securityGroupEgressRule:SecurityGroupEgressRule": "aws_vpc_security_group_egress_rule",
    "vpc/securityGroupIngressRule:SecurityGroupIngressRule": "aws_vpc_security_group_ingress_rule",
}
_MAPS = ("tags",)
_BLOCKS = {
    "encryption_configurations": "encryption_configuration",
    "log_delivery_configurations": "log_delivery_configuration",
    "parameters": "parameter",
}
"""Pulumi gives repeated blocks names in the plural."""


def terraform_type(declared: Declared) -> str:
    """Return the name of an AWS resource's type in Terraform."""
    return _TERRAFORM[declared.type.removeprefix("aws:")]


def plan(resources: list[Declared]) -> dict[str, Any]:
    """Return resources of AWS as the plan of Terraform that would make them."""
    planned = [
        {
            "address": f"{terraform_type(each)}.{each.name}",
            "mode": "managed",
            "type": terraform_type(each),
            "name": each.name,
            "provider_name": "registry.terraform.io/hashicorp/aws",
            "schema_version": 1,
            "values": _block(plain(each.inputs)),
        }
        for each in resources
    ]
    changes = [
        {
            **{key: each[key] for key in ("address", "mode", "type", "name", "provider_name")},
            "change": {"actions": ["create"], "before": None, "after": each["values"]},
        }
        for each in planned
    ]
    return {
        "format_version": "1.2",
        "terraform_version": "1.9.0",
        "planned_values": {"root_module": {"resources": planned}},
        "resource_changes": changes,
        "configuration": {},
    }


def _block(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return properties under their names in Terraform, where one block is a list of one."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
        key = _BLOCKS.get(key, key)
        if isinstance(value, Mapping):
            found[key] = dict(value) if name in _MAPS else [_block(value)]
        elif isinstance(value, list):
            found[key] = [_block(each) if isinstance(each, Mapping) else each for each in value]
        else:
            found[key] = value
    return found


def lay_out(directory: Path, environment: str) -> None:
    """Write what an environment declares: manifests, and a plan."""
    resources = whole(environment)[0].resources
    aws = [each for each in resources if each.type.startswith("aws:")]
    (directory / "tfplan.json").write_text(json.dumps(plan(aws)))
    kubernetes = [
        plain(each.inputs)
        for each in resources
        if each.type.startswith("kubernetes:") and "helm.sh" not in each.type
    ]
    (directory / "manifests.yaml").write_text(yaml.safe_dump_all(kubernetes))
    (directory / "Dockerfile").write_text((ROOT / "Dockerfile").read_text())


def findings(checkov: str, directory: Path) -> set[tuple[str, str]]:
    """Return what checkov finds: each check (`CKV_AWS_1 what it wants`) with a resource."""
    ran = subprocess.run(
        [checkov, "--directory", str(directory), "--compact", "--quiet", "--output", "json"],
        capture_output=True,
        text=True,
    )
    answer = json.loads(ran.stdout)
    return {
        (f"{failed['check_id']} {failed['check_name']}", failed["resource"])
        for report in (answer if isinstance(answer, list) else [answer])
        for failed in report.get("results", {}).get("failed_checks", [])
    }


def explanation(check: str, resource: str, environment: str) -> str | None:
    """Return why a finding stays, or None for one that nobody has explained."""
    covering = (each for each in EXPLAINED if each.covers(check, resource, environment))
    return next((each.reason for each in covering), None)


def main(
    checkov: Annotated[str, typer.Argument(help="The program, as /tmp/checkov/bin/checkov.")],
) -> None:
    """Scan staging and prod; print what is found, and exit with 1 if anything is unexplained."""
    unexplained = 0
    for environment in ENVIRONMENTS:
        with tempfile.TemporaryDirectory() as folder:
            lay_out(Path(folder), environment)
            found = findings(checkov, Path(folder))
        for finding, resource in sorted(found):
            reason = explanation(finding.split()[0], resource, environment)
            unexplained += reason is None
            typer.echo(f"{environment}: {resource}: {finding}: {reason or 'UNEXPLAINED'}")
    if unexplained:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
