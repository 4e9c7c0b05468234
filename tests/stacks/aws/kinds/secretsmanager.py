# ruff: noqa: ARG002, the signatures are given
"""Secrets."""

from __future__ import annotations

from tests.stacks.aws.kinds.cloud import Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, request
from tests.stacks.stand_in import GoneError


class Secret(Kind):
    updatable = frozenset({"description", "kmsKeyId"})
    local = frozenset({"recoveryWindowInDays", "forceOverwriteReplicaSecret"})
    autonamed = "name"

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        cloud.client("kms").describe_key(KeyId=inputs["kmsKeyId"])
        params = request(
            inputs,
            {"name": "Name", "description": "Description", "kmsKeyId": "KmsKeyId"},
            self.local,
        )
        made = cloud.client("secretsmanager").create_secret(**params, Tags=cloud.tag_list(inputs))
        return made["ARN"], {"arn": made["ARN"]}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        found = cloud.client("secretsmanager").describe_secret(SecretId=id_)
        if found.get("DeletedDate"):
            raise GoneError
        return {"kmsKeyId": found["KmsKeyId"]}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        cloud.client("secretsmanager").update_secret(
            SecretId=id_, Description=new["description"], KmsKeyId=new["kmsKeyId"]
        )
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("secretsmanager").delete_secret(
            SecretId=id_, RecoveryWindowInDays=state["recoveryWindowInDays"]
        )


class SecretVersion(Kind):
    """A text of a secret; another text is another version, and the present one."""

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs, {"secretId": "SecretId", "secretString": "SecretString"}, self.local
        )
        made = cloud.client("secretsmanager").put_secret_value(**params)
        return f"{made['ARN']}|{made['VersionId']}", {"secretArn": made["ARN"]}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        arn, _, version = id_.partition("|")
        cloud.client("secretsmanager").get_secret_value(SecretId=arn, VersionId=version)
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        """Leave it: the present version goes with its secret, those before it by themselves."""


KINDS: dict[str, Kind] = {
    "aws:secretsmanager/secret:Secret": Secret(),
    "aws:secretsmanager/secretVersion:SecretVersion": SecretVersion(),
}
