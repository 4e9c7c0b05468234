"""What is given to checkov, and which of its findings stay."""

from __future__ import annotations

import pytest

from tests.stacks.aws.mocks import whole
from tests.stacks.scan import ENVIRONMENTS, explanation, plan


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_resource_of_aws_is_scanned_under_its_name_in_terraform(environment: str) -> None:
    declared = [each for each in whole(environment)[0].resources if each.type.startswith("aws:")]
    planned = plan(declared)["planned_values"]["root_module"]["resources"]
    assert len(planned) == len(declared)
    (database,) = [
        each for each in planned if each["address"] == "aws_db_instance.platform-database"
    ]
    assert database["values"]["storage_encrypted"] is True
    (cluster,) = [each for each in planned if each["type"] == "aws_eks_cluster"]
    # A block is a list of one; a map stays a map.
    assert cluster["values"]["encryption_config"][0]["resources"] == ["secrets"]


def test_a_finding_is_explained_where_it_was_looked_at_and_nowhere_else() -> None:
    database = "aws_db_instance.platform-database"
    assert explanation("CKV_AWS_157", database, "staging")
    assert explanation("CKV_AWS_157", f"{database}-replica", "prod")
    assert explanation("CKV_AWS_157", database, "prod") is None
    assert explanation("CKV_AWS_17", database, "staging") is None
