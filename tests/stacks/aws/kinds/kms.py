# ruff: noqa: ARG002, the signatures are given
"""Keys."""

from __future__ import annotations

from tests.stacks.aws.kinds.cloud import Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, request
from tests.stacks.stand_in import GoneError


class Key(Kind):
    updatable = frozenset({"description", "policy", "enableKeyRotation"})
    local = frozenset({"enableKeyRotation", "deletionWindowInDays"})

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        client = cloud.client("kms")
        params = request(inputs, {"description": "Description", "policy": "Policy"}, self.local)
        tags = [{"TagKey": key, "TagValue": value} for key, value in cloud.tags(inputs).items()]
        made = client.create_key(**params, Tags=tags)["KeyMetadata"]
        self._rotate(cloud, made["KeyId"], inputs)
        return made["KeyId"], {"arn": made["Arn"], "keyId": made["KeyId"]}

    def _rotate(self, cloud: Cloud, id_: str, inputs: Inputs) -> None:
        client = cloud.client("kms")
        change = (
            client.enable_key_rotation
            if inputs.get("enableKeyRotation")
            else client.disable_key_rotation
        )
        change(KeyId=id_)

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        client = cloud.client("kms")
        if client.describe_key(KeyId=id_)["KeyMetadata"]["KeyState"] == "PendingDeletion":
            raise GoneError
        rotation = client.get_key_rotation_status(KeyId=id_)["KeyRotationEnabled"]
        return {"enableKeyRotation": rotation}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        client = cloud.client("kms")
        client.update_key_description(KeyId=id_, Description=new["description"])
        client.put_key_policy(KeyId=id_, Policy=new["policy"])
        self._rotate(cloud, id_, new)
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        days = state.get("deletionWindowInDays", 30)
        cloud.client("kms").schedule_key_deletion(KeyId=id_, PendingWindowInDays=days)


class Alias(Kind):
    updatable = frozenset({"targetKeyId"})
    autonamed = "name"

    def named(self, inputs: Inputs, name: str, suffix: str) -> Inputs:
        return {"name": f"alias/{name}-{suffix}", **inputs}

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(inputs, {"name": "AliasName", "targetKeyId": "TargetKeyId"}, self.local)
        cloud.client("kms").create_alias(**params)
        return inputs["name"], {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("kms").describe_key(KeyId=id_)
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        cloud.client("kms").update_alias(AliasName=id_, TargetKeyId=new["targetKeyId"])
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("kms").delete_alias(AliasName=id_)


KINDS: dict[str, Kind] = {"aws:kms/key:Key": Key(), "aws:kms/alias:Alias": Alias()}
