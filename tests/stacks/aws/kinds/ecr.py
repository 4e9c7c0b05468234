# ruff: noqa: ARG002, the signatures are given
"""Image repositories."""

from __future__ import annotations

from tests.stacks.aws.kinds.cloud import Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, request


class Repository(Kind):
    updatable = frozenset({"imageTagMutability", "imageScanningConfiguration"})
    local = frozenset({"forceDelete"})
    autonamed = "name"

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {
                "name": "repositoryName",
                "imageTagMutability": "imageTagMutability",
                "imageScanningConfiguration": "imageScanningConfiguration",
                "encryptionConfigurations": lambda those: {
                    "encryptionConfiguration": {
                        "encryptionType": those[0]["encryptionType"],
                        "kmsKey": those[0]["kmsKey"],
                    }
                },
            },
            self.local,
        )
        for encryption in inputs.get("encryptionConfigurations", []):
            cloud.client("kms").describe_key(KeyId=encryption["kmsKey"])
        made = cloud.client("ecr").create_repository(**params, tags=cloud.tag_list(inputs))
        repository = made["repository"]
        return inputs["name"], {
            "arn": repository["repositoryArn"],
            "repositoryUrl": repository["repositoryUri"],
        }

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        (found,) = cloud.client("ecr").describe_repositories(repositoryNames=[id_])["repositories"]
        return {
            "imageTagMutability": found["imageTagMutability"],
            "imageScanningConfiguration": found["imageScanningConfiguration"],
        }

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        client = cloud.client("ecr")
        client.put_image_tag_mutability(
            repositoryName=id_, imageTagMutability=new["imageTagMutability"]
        )
        client.put_image_scanning_configuration(
            repositoryName=id_, imageScanningConfiguration=new["imageScanningConfiguration"]
        )
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ecr").delete_repository(
            repositoryName=id_, force=state.get("forceDelete", False)
        )


class LifecyclePolicy(Kind):
    updatable = frozenset({"policy"})

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs, {"repository": "repositoryName", "policy": "lifecyclePolicyText"}, self.local
        )
        cloud.client("ecr").put_lifecycle_policy(**params)
        return inputs["repository"], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("ecr").get_lifecycle_policy(repositoryName=id_)
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        self.create(cloud, new)
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("ecr").delete_lifecycle_policy(repositoryName=id_)


KINDS: dict[str, Kind] = {
    "aws:ecr/repository:Repository": Repository(),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": LifecyclePolicy(),
}
