"""The whole program by the real engine: what a change to staging does, and what it leaves alone.

The cluster is a real control plane whose pods only pretend (pretence.py). One stack for the module,
the tests in order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.stacks.engine import ROOT, operations
from tests.stacks.inputs import without_digest
from tests.stacks.pretence import Pretended, running_pretended

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SERVICES = ("complexity", "exporter", "fsrs-optimization", "scheduler")
ROLLED = {f"platform-{service} Deployment": "update" for service in SERVICES}
PHASE: dict[str, Any] = {"phase": "sync"}
VERIFY: dict[str, Any] = {"phase": "verify"}
ROTATED: dict[str, Any] = {"queue": {"passwordGeneration": 2}}


def without_digests(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes with the names of Jobs as their steps have them."""
    return {without_digest(name): step for name, step in changes.items()}


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretended]:
    directory = tmp_path_factory.mktemp("whole")
    with running_pretended(
        directory, "staging", partitioning=PHASE, history={"source": "none"}
    ) as made:
        yield made


def test_the_first_update_makes_what_is_in_aws_so_that_the_image_can_be_pushed(
    staging: Pretended,
) -> None:
    """As docs/bootstrap.md has it: without the cluster's contents, which need the image."""
    staging.engine.up("--exclude", "**::platform-kubernetes", "--exclude-dependents")
    (repository,) = staging.stand_ins.cloud.client("ecr").describe_repositories()["repositories"]
    assert staging.engine.outputs()["registry_url"] == repository["repositoryUri"]
    assert staging.ran() == []


def test_the_second_makes_the_rest_and_leaves_nothing_to_do(staging: Pretended) -> None:
    staging.engine.up()
    assert [line.split()[1] for line in staging.ran()] == [
        "roles",
        "upgrade",
        "install",
        "prepare",
        "sync",
    ]
    staging.engine.expect_no_changes()
    staging.engine.refresh("--expect-no-changes")


def test_the_next_phase_is_one_step_with_the_sql_it_will_run(staging: Pretended) -> None:
    staging.configure(partitioning={"phase": "backfill"})
    changes = staging.engine.changes()
    assert without_digests(operations(changes)) == {
        "platform-backfill Step": "create",
        "platform-backfill Job": "create",
    }
    shown = "\n".join(changes["platform-backfill Step"]["newState"]["inputs"]["sql"])
    assert "INSERT INTO" in shown.upper()


def test_a_step_that_fails_fails_the_update_with_the_end_of_its_log(staging: Pretended) -> None:
    staging.configure(partitioning={"phase": "verify"})
    failing = staging.folder / "fails-backfill"
    failing.touch()
    failed = staging.engine.up(check=False)
    assert failed.returncode
    assert "the disk is full" in failed.stdout + failed.stderr
    failing.unlink()
    # What comes after it was not tried.
    assert [line.split()[1] for line in staging.ran()] == ["backfill"]


def test_the_next_update_runs_it_again_and_goes_on(staging: Pretended) -> None:
    staging.engine.up()
    assert [line.split()[1] for line in staging.ran()] == ["backfill", "verify"]


def test_another_image_and_engine_version_roll_what_serves_and_run_no_step_again(
    staging: Pretended,
) -> None:
    image = f"sha256:{'fedcba9876543210' * 4}"
    changed = staging.changes(
        partitioning=VERIFY, aws={"image": image, "database": {"version": "19"}}
    )
    assert "replace" in changed.pop("platform-database ParameterGroup")
    assert changed == {
        "platform-database Instance": "update",
        "platform-maintain CronJob": "update",
        **ROLLED,
    }


def test_another_password_changes_the_secret_and_rolls_what_reads_it(staging: Pretended) -> None:
    changed = staging.changes(partitioning=VERIFY, aws=ROTATED)
    assert "replace" in changed.pop("platform-queue-password RandomPassword")
    assert changed == {
        "platform-queue-workers User": "update",
        "platform-queue Secret": "update",
        **ROLLED,
    }


def test_a_new_migration_is_another_job_of_the_step_and_nothing_else(staging: Pretended) -> None:
    migrations = staging.engine.program / "migrations"
    migrations.unlink()
    shutil.copytree(ROOT / "migrations", migrations)
    newest = max((migrations / "versions").glob("0*.py"))
    number = int(newest.name[:4])
    added = newest.with_name(f"{number + 1:04}_another.py")
    source = newest.read_text().replace(
        f'revision = "{number:04}"', f'revision = "{number + 1:04}"'
    )
    before = f'down_revision = "{number - 1:04}"'
    added.write_text(source.replace(before, f'down_revision = "{number:04}"'))
    added.with_suffix(".sql").write_text("SELECT 'another';\n")
    image = f"sha256:{'89abcdef01234567' * 4}"
    staging.configure(partitioning=VERIFY, aws={"image": image})
    changes = staging.engine.changes()
    jobs = {name: step for name, step in changes.items() if name.endswith(" Job")}
    assert sorted(operations(jobs).values()) == ["create", "delete"]
    assert without_digests(jobs).keys() == {"platform-schema Job"}
    # It is the new image that knows the new migration.
    (made,) = (step["newState"] for step in jobs.values() if step["op"] == "create")
    assert image in json.dumps(made["inputs"]["spec"]["template"])
    assert operations({name: step for name, step in changes.items() if name not in jobs}) == {
        "platform-schema Step": "update",
        "platform-maintain CronJob": "update",
        **ROLLED,
    }


def test_a_phase_back_deletes_its_steps_and_what_cannot_be_undone_fails_the_update(
    staging: Pretended,
) -> None:
    changed = staging.changes(partitioning={"phase": "prepare"}, aws=ROTATED)
    deleted = {name: operation for name, operation in changed.items() if operation == "delete"}
    assert without_digests(deleted).keys() == {
        # The Job of the schema without the new migration, whose step stays.
        "platform-schema Job",
        *(
            f"platform-{phase} {kind}"
            for phase in ("sync", "backfill", "verify")
            for kind in ("Step", "Job")
        ),
    }
    failing = staging.folder / "fails-undo"
    failing.touch()
    refused = staging.engine.up(check=False)
    assert refused.returncode
    assert "the disk is full" in refused.stdout + refused.stderr
    failing.unlink()
    # The new migration came first.
    assert staging.ran() == [
        "migrations upgrade --json",
        "migrations.partition undo verify",
    ]


def test_the_next_update_takes_the_steps_back_the_last_one_first(staging: Pretended) -> None:
    staging.engine.up()
    assert staging.ran() == [
        f"migrations.partition undo {phase}" for phase in ("verify", "backfill", "sync")
    ]
    staging.engine.expect_no_changes()


def test_destroying_it_takes_no_step_back(staging: Pretended) -> None:
    staging.engine.destroy("--run-program")
    assert staging.ran() == []
    assert staging.stand_ins.cloud.client("rds").describe_db_instances()["DBInstances"] == []
    left = json.loads(staging.engine.pulumi("stack", "export", "-s", "staging").stdout)
    assert not left["deployment"].get("resources")
