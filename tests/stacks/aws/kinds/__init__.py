"""What the stand-in for AWS knows of each type: the calls that make, read and change it."""

from __future__ import annotations

from tests.stacks.aws.kinds import ec2, ecr, eks, elasticache, iam, kms, logs, rds, secretsmanager
from tests.stacks.aws.kinds.kind import Kind

KINDS: dict[str, Kind] = {
    **ec2.KINDS,
    **ecr.KINDS,
    **eks.KINDS,
    **elasticache.KINDS,
    **iam.KINDS,
    **kms.KINDS,
    **logs.KINDS,
    **rds.KINDS,
    **secretsmanager.KINDS,
}
"""By type token, as `aws:ec2/vpc:Vpc`."""
