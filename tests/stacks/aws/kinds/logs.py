# ruff: noqa: ARG002, the signatures are given
"""Log groups."""

from __future__ import annotations

from tests.stacks.aws.kinds.cloud import ACCOUNT, Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, request
from tests.stacks.stand_in import GoneError


class LogGroup(Kind):
    updatable = frozenset({"retentionInDays"})
    local = updatable
    autonamed = "name"

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(inputs, {"name": "logGroupName", "kmsKeyId": "kmsKeyId"}, self.local)
        cloud.client("kms").describe_key(KeyId=inputs["kmsKeyId"])
        cloud.client("logs").create_log_group(**params, tags=cloud.tags(inputs))
        self.update(cloud, inputs["name"], {}, inputs)
        arn = f"arn:aws:logs:{cloud.region}:{ACCOUNT}:log-group:{inputs['name']}"
        return inputs["name"], {"arn": arn}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        found = cloud.client("logs").describe_log_groups(logGroupNamePrefix=id_)["logGroups"]
        for group in found:
            if group["logGroupName"] == id_:
                return {"retentionInDays": group["retentionInDays"]}
        raise GoneError

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        cloud.client("logs").put_retention_policy(
            logGroupName=id_, retentionInDays=new["retentionInDays"]
        )
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("logs").delete_log_group(logGroupName=id_)


KINDS: dict[str, Kind] = {"aws:cloudwatch/logGroup:LogGroup": LogGroup()}
