"""KMS keys of our own, one a purpose, so that each can be granted, rotated and audited alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_aws import kms

from stacks.aws.documents import document

PURPOSES = ("cluster", "database", "logs", "queue", "registry")
LAST_SNAPSHOTS = ("database",)
"""Purposes of which every stack leaves a last snapshot."""


@dataclass(frozen=True)
class EncryptionArgs:
    """Keys of `retained` purposes stay when the stack goes, for its last snapshots need them.

    `snapshot_readers` are other accounts that may copy snapshots of the database that are shared
    with them.
    """

    account_id: str
    region: str
    protected: bool
    retained: Collection[str]
    snapshot_readers: Collection[str] = ()


class Encryption(pulumi.ComponentResource):
    """A rotated key with an alias for each of `PURPOSES`; `arns` maps a purpose to its key."""

    arns: Mapping[str, pulumi.Output[str]]

    def __init__(
        self, name: str, args: EncryptionArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:aws:Encryption", name, None, opts)
        arns: dict[str, pulumi.Output[str]] = {}
        for purpose in PURPOSES:
            key = kms.Key(
                f"{name}-{purpose}",
                description=f"Encrypts the {purpose} of the learning platform",
                enable_key_rotation=True,
                # Time to notice a deletion that was not meant; the longest there is.
                deletion_window_in_days=30,
                policy=_key_policy(args, purpose),
                opts=pulumi.ResourceOptions(
                    parent=self,
                    protect=args.protected,
                    retain_on_delete=purpose in args.retained,
                ),
            )
            kms.Alias(
                f"{name}-{purpose}",
                target_key_id=key.key_id,
                opts=pulumi.ResourceOptions(parent=self),
            )
            arns[purpose] = key.arn
        self.arns = arns
        self.register_outputs({"arns": arns})


def _key_policy(args: EncryptionArgs, purpose: str) -> str:
    """Return a key's policy: the account's IAM decides, and for logs CloudWatch may use the key.

    In a key's policy the resource `*` means the key itself.
    """
    statements: list[dict[str, Any]] = [
        {
            "Sid": "AccountDecidesByIam",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{args.account_id}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ]
    if purpose == "database" and args.snapshot_readers:
        readers = {"AWS": [f"arn:aws:iam::{account}:root" for account in args.snapshot_readers]}
        statements += [
            {
                "Sid": "SnapshotReadersDecrypt",
                "Effect": "Allow",
                "Principal": readers,
                "Action": ["kms:Decrypt", "kms:DescribeKey", "kms:ReEncryptFrom"],
                "Resource": "*",
            },
            {
                "Sid": "SnapshotReadersLetRdsCopy",
                "Effect": "Allow",
                "Principal": readers,
                "Action": ["kms:CreateGrant"],
                "Resource": "*",
                "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
            },
        ]
    if purpose == "logs":
        statements.append(
            {
                "Sid": "CloudWatchLogsOfThisAccount",
                "Effect": "Allow",
                "Principal": {"Service": f"logs.{args.region}.amazonaws.com"},
                "Action": [
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                "Resource": "*",
                "Condition": {
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": (
                            f"arn:aws:logs:{args.region}:{args.account_id}:log-group:*"
                        )
                    }
                },
            }
        )
    return document(*statements)
