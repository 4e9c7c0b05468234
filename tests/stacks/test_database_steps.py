"""The chain of steps: what each phase adds, and what is refused before anything is declared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest

from stacks.database_steps import database_steps, require_files
from stacks.platform import Platform, StepSpec
from stacks.settings import (
    PHASES,
    AnkiHistorySettings,
    NoHistorySettings,
    PartitioningSettings,
    Settings,
    SettingsError,
    SimulatedHistorySettings,
)

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = SimulatedHistorySettings(source="simulated", actors=3, reviews=9)


class Recorder:
    """Stands where the platform does, and remembers what is declared."""

    def __init__(self, workers_role: str | None = None) -> None:
        self.declared: list[tuple[str, StepSpec, list[object]]] = []
        self.workers_role = workers_role

    def step(self, name: str, spec: StepSpec, after: Sequence[pulumi.Resource]) -> pulumi.Resource:
        self.declared.append((name, spec, list(after)))
        return cast(pulumi.Resource, name)


def declared(phase: str, history: Any = SIMULATED) -> list[tuple[str, StepSpec, list[object]]]:
    recorder = Recorder()
    partitioning = PartitioningSettings.model_validate({"phase": phase})
    database_steps(cast(Platform, recorder), partitioning, history)
    return recorder.declared


def test_each_phase_adds_its_steps_at_the_end_and_changes_none_before() -> None:
    shorter: list[tuple[str, StepSpec, list[object]]] = []
    for phase in PHASES:
        longer = declared(phase)
        assert longer[: len(shorter)] == shorter
        shorter = longer
    names = [name for name, _, _ in shorter]
    assert names == ["schema", "history", *PHASES[2:]]


def test_every_step_runs_after_the_one_before() -> None:
    steps = declared("retire")
    assert [after for _, _, after in steps] == [[], *([name] for name, _, _ in steps[:-1])]


def test_every_step_shows_the_sql_it_runs() -> None:
    for name, spec, _ in declared("retire"):
        assert spec.sql.strip(), name
    sql = {name: spec.sql for name, spec, _ in declared("retire")}
    assert "review_logs" in sql["schema"]
    assert "CREATE TRIGGER" in sql["sync"].upper()
    assert "DROP TABLE" in sql["retire"].upper()


def test_the_phase_none_leaves_the_database_alone() -> None:
    assert declared("none") == []


def test_a_stack_without_a_history_has_no_step_for_it() -> None:
    names = [name for name, _, _ in declared("prepare", NoHistorySettings(source="none"))]
    assert names == ["schema", "prepare"]


def test_services_with_a_role_of_their_own_are_given_what_they_need_after_the_schema() -> None:
    recorder = Recorder("some_role")
    database_steps(
        cast(Platform, recorder),
        PartitioningSettings(phase="schema"),
        NoHistorySettings(source="none"),
    )
    (schema, _, _), (install, spec, after) = recorder.declared
    assert (schema, install, after) == ("schema", "install", ["schema"])
    assert "--role=some_role" in spec.command
    assert "some_role" in spec.sql


def test_only_retire_refuses_to_be_taken_away() -> None:
    assert [name for name, spec, _ in declared("retire") if spec.refusal] == ["retire"]


def test_a_missing_history_file_is_refused_naming_its_key(tmp_path: Path) -> None:
    settings = Settings(history=AnkiHistorySettings(source="anki", path=tmp_path / "absent.csv"))
    with pytest.raises(
        SettingsError, match=r"learning-platform:history\.path: got '.*absent\.csv'"
    ):
        require_files(settings, ROOT)


@pytest.mark.parametrize("content", [None, 'table = "public.review_logs"\nkye = "reviewed_at"\n'])
def test_a_missing_or_wrong_spec_is_refused_naming_its_key(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "table.toml"
    if content is not None:
        path.write_text(content)
    partitioning = PartitioningSettings.model_validate({"phase": "sync", "spec": str(path)})
    with pytest.raises(SettingsError, match=r"learning-platform:partitioning\.spec: .*table\.toml"):
        require_files(Settings(partitioning=partitioning), ROOT)


def test_the_committed_settings_name_files_that_are_there() -> None:
    require_files(Settings(history=SIMULATED), ROOT)
