"""A database step as a Job: when it is another one, and how it is taken back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest

from stacks.database_steps import STEPS
from stacks.kubernetes.pods import PodArgs
from stacks.kubernetes.sizes import Size
from stacks.kubernetes.step import REFUSAL, UNDO, StepJobArgs, job, undo_job
from stacks.kubernetes.undo import UndoError, undo_hook
from stacks.platform import StepSpec
from stacks.settings import PHASES, Settings
from tests.stacks.aws.mocks import Declarations, declare, settings, whole_with
from tests.stacks.inputs import without_digest

SPEC = StepSpec(command=("-m", "migrations", "upgrade"), sql="SELECT 1", undo=("-m", "back"))
POD = PodArgs("schema", "image@sha256:01", ("-m",), "steps", Size(500, 512), restart_policy="Never")
ARGS = StepJobArgs("apps", "schema", SPEC, POD)


def name(args: StepJobArgs) -> str:
    return job(args)["metadata"]["name"]


def test_the_same_content_is_the_same_job_whatever_runs_it() -> None:
    assert name(ARGS) == name(replace(ARGS, pod=replace(POD, image="image@sha256:02")))
    assert name(ARGS) == name(replace(ARGS, pod=replace(POD, size=Size(1000, 1024))))


def test_other_commands_other_sql_other_files_and_another_database_are_other_jobs(
    tmp_path: Path,
) -> None:
    file = tmp_path / "spec.toml"
    file.write_text("a = 1")
    with_file = replace(ARGS, files=(file,))
    names = {
        name(ARGS),
        name(replace(ARGS, spec=replace(SPEC, command=("-m", "other")))),
        name(replace(ARGS, spec=replace(SPEC, sql="SELECT 2"))),
        name(replace(ARGS, database="snapshot")),
        name(with_file),
    }
    file.write_text("a = 2")
    assert len({*names, name(with_file)}) == 6


def test_a_job_that_failed_is_made_again_and_its_pods_are_tried_a_few_times() -> None:
    manifest = job(ARGS)
    assert manifest["metadata"]["annotations"]["pulumi.com/replaceUnready"] == "true"
    assert manifest["spec"]["backoffLimit"] > 0
    assert manifest["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert "ttlSecondsAfterFinished" not in manifest["spec"]


def test_the_job_that_takes_a_step_back_runs_its_command_and_goes_by_itself() -> None:
    manifest = undo_job(ARGS, ["-m", "back"])
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["-m", "back"]
    assert manifest["metadata"]["name"].startswith("schema-undo-")
    assert manifest["spec"]["ttlSecondsAfterFinished"] > 0


class Cluster:
    """Stands where Jobs are run, and remembers what."""

    def __init__(self, failure: str = "") -> None:
        self.ran: list[tuple[str, list[str]]] = []
        self.failure = failure

    async def run(self, step: str, command: Sequence[str]) -> None:
        if self.failure:
            raise UndoError(self.failure)
        self.ran.append((step, list(command)))


def deleted(
    annotations: dict[str, str], cluster: Cluster, *, wanted: bool = False, preview: bool = False
) -> None:
    """Delete the Job of `sync`, as the engine does."""

    def program() -> None:
        undo_hook("sync", lambda _: wanted, cluster.run)

    hook = declare(program)[0].hooks["undo-sync"]
    inputs: dict[str, Any] = {"metadata": {"annotations": annotations}}
    args = pulumi.ResourceHookArgs("urn", "apps/sync", "sync", "Job", old_inputs=inputs)

    async def call() -> None:
        await hook(args)  # type: ignore[misc]

    setattr(pulumi.runtime.settings.SETTINGS, "dry_run", preview)  # noqa: B010
    asyncio.new_event_loop().run_until_complete(call())


def test_a_step_that_is_taken_away_is_taken_back_by_the_command_it_was_declared_with() -> None:
    cluster = Cluster()
    deleted({UNDO: json.dumps(["-m", "back"])}, cluster)
    assert cluster.ran == [("sync", ["-m", "back"])]


def test_a_step_that_is_replaced_or_goes_with_the_whole_stack_is_not_taken_back() -> None:
    cluster = Cluster()
    deleted({UNDO: json.dumps(["-m", "back"]), REFUSAL: "no"}, cluster, wanted=True)
    assert cluster.ran == []


def test_a_preview_takes_nothing_back_but_tells_a_refusal() -> None:
    cluster = Cluster()
    deleted({UNDO: json.dumps(["-m", "back"])}, cluster, preview=True)
    assert cluster.ran == []
    with pytest.raises(UndoError, match="cannot be taken back"):
        deleted({REFUSAL: "retire cannot be taken back"}, cluster, preview=True)


def test_what_cannot_be_taken_back_fails_the_update() -> None:
    with pytest.raises(UndoError, match="the end of the log"):
        deleted({UNDO: json.dumps(["-m", "back"])}, Cluster("the end of the log"))


def through(phase: str) -> Declarations:
    changed = Settings.model_validate(
        {
            "aws": settings("staging").model_dump(by_alias=True, mode="json", exclude_none=True),
            "partitioning": {"phase": phase},
        }
    )
    return whole_with(changed)[0]


def test_every_step_there_may_be_has_its_hook_however_far_the_phase_goes() -> None:
    """The engine looks a deleted step's hook up by its name, when the step is declared no more."""
    shortest, longest = through("none"), through("retire")
    assert set(shortest.hooks) == set(longest.hooks) == {f"undo-{step}" for step in STEPS}
    bound = {
        without_digest(each.name).removeprefix("platform-"): each.hooks
        for each in longest.of("kubernetes:batch/v1:Job").values()
    }
    assert bound["roles"] == bound["schema"] == ()
    for phase in PHASES[2:]:
        assert bound[phase] == (f"undo-{phase}",)


def test_the_next_phase_adds_one_step_and_changes_no_other_object() -> None:
    before, after = through("sync"), through("backfill")
    old = {(each.type, each.name): each.inputs for each in before.resources}
    new = {(each.type, each.name): each.inputs for each in after.resources}
    assert {key: new[key] for key in old} == old
    assert {(type_, without_digest(name)) for type_, name in set(new) - set(old)} == {
        ("learning-platform:kubernetes:Step", "platform-backfill"),
        ("kubernetes:batch/v1:Job", "platform-backfill"),
    }
