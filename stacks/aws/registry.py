"""The image registry: one ECR repository, scanned, immutable, tidied by itself."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
from pulumi_aws import ecr

KEPT_IMAGES = 50
UNTAGGED_DAYS = 7


@dataclass(frozen=True)
class RegistryArgs:
    """The plan of a registry; a `durable` one is not deleted while it holds images."""

    repository: str
    key_arn: pulumi.Input[str]
    durable: bool


class Registry(pulumi.ComponentResource):
    """A repository; `url` is what images are named with, before `@sha256:` or the tag."""

    url: pulumi.Output[str]
    arn: pulumi.Output[str]

    def __init__(
        self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("learning-platform:aws:Registry", name, None, opts)
        children = pulumi.ResourceOptions(parent=self)
        repository = ecr.Repository(
            name,
            name=args.repository,
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=ecr.RepositoryImageScanningConfigurationArgs(
                scan_on_push=True
            ),
            encryption_configurations=[
                ecr.RepositoryEncryptionConfigurationArgs(
                    encryption_type="KMS", kms_key=args.key_arn
                )
            ],
            force_delete=not args.durable,
            opts=pulumi.ResourceOptions(parent=self, protect=args.durable),
        )
        ecr.LifecyclePolicy(
            name, repository=repository.name, policy=lifecycle_policy(), opts=children
        )
        self.url = repository.repository_url
        self.arn = repository.arn
        self.register_outputs({"url": self.url, "arn": self.arn})


def lifecycle_policy() -> str:
    """Return which images go: untagged ones after a week, all but the newest fifty."""
    expire = {"type": "expire"}
    return json.dumps(
        {
            "rules": [
                {
                    "rulePriority": 1,
                    "description": "Untagged images: builds that were never released",
                    "selection": {
                        "tagStatus": "untagged",
                        "countType": "sinceImagePushed",
                        "countUnit": "days",
                        "countNumber": UNTAGGED_DAYS,
                    },
                    "action": expire,
                },
                {
                    "rulePriority": 2,
                    "description": "All but the newest",
                    "selection": {
                        "tagStatus": "any",
                        "countType": "imageCountMoreThan",
                        "countNumber": KEPT_IMAGES,
                    },
                    "action": expire,
                },
            ]
        },
        sort_keys=True,
    )
