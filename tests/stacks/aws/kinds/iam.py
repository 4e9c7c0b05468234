# ruff: noqa: ARG002, the signatures are given
"""Roles and their policies."""

from __future__ import annotations

from typing import ClassVar

from tests.stacks.aws.kinds.cloud import Cloud
from tests.stacks.aws.kinds.kind import Inputs, Kind, Mapped, request
from tests.stacks.stand_in import GoneError


class Role(Kind):
    updatable = frozenset({"assumeRolePolicy"})
    autonamed = "name"
    longest_name = 64

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(
            inputs,
            {"name": "RoleName", "assumeRolePolicy": "AssumeRolePolicyDocument"},
            self.local,
        )
        made = cloud.client("iam").create_role(**params, Tags=cloud.tag_list(inputs))["Role"]
        return made["RoleName"], {"arn": made["Arn"]}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("iam").get_role(RoleName=id_)
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        cloud.client("iam").update_assume_role_policy(
            RoleName=id_, PolicyDocument=new["assumeRolePolicy"]
        )
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("iam").delete_role(RoleName=id_)


class RolePolicy(Kind):
    updatable = frozenset({"policy"})
    autonamed = "name"
    longest_name = 128
    _mapped: ClassVar[Mapped] = {
        "name": "PolicyName",
        "role": "RoleName",
        "policy": "PolicyDocument",
    }

    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        cloud.client("iam").put_role_policy(**request(inputs, self._mapped, self.local))
        return f"{inputs['role']}:{inputs['name']}", {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        cloud.client("iam").get_role_policy(RoleName=state["role"], PolicyName=state["name"])
        return {}

    def update(self, cloud: Cloud, id_: str, old: Inputs, new: Inputs) -> Inputs:
        cloud.client("iam").put_role_policy(**request(new, self._mapped, self.local))
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("iam").delete_role_policy(RoleName=state["role"], PolicyName=state["name"])


class RolePolicyAttachment(Kind):
    def create(self, cloud: Cloud, inputs: Inputs) -> tuple[str, Inputs]:
        params = request(inputs, {"role": "RoleName", "policyArn": "PolicyArn"}, self.local)
        cloud.client("iam").attach_role_policy(**params)
        return f"{inputs['role']}/{inputs['policyArn']}", {}

    def read(self, cloud: Cloud, id_: str, state: Inputs) -> Inputs:
        found = cloud.client("iam").list_attached_role_policies(RoleName=state["role"])
        if state["policyArn"] not in [each["PolicyArn"] for each in found["AttachedPolicies"]]:
            raise GoneError
        return {}

    def delete(self, cloud: Cloud, id_: str, state: Inputs) -> None:
        cloud.client("iam").detach_role_policy(RoleName=state["role"], PolicyArn=state["policyArn"])


KINDS: dict[str, Kind] = {
    "aws:iam/role:Role": Role(),
    "aws:iam/rolePolicy:RolePolicy": RolePolicy(),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": RolePolicyAttachment(),
}
