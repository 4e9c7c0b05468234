from __future__ import annotations

import re

import pytest

from migrations.partition.phases import Phase
from migrations.partition.spec import Spec
from migrations.partition.statements import phase_sql, text
from tests.migrations.partition.application import SPEC


@pytest.mark.parametrize("phase", list(Phase))
def test_the_shown_sql_has_no_place_left_open_and_no_date(phase: Phase) -> None:
    shown = phase_sql(SPEC, phase)
    assert shown == phase_sql(SPEC, phase)
    assert not re.search(r"\{[a-z_]+\}", shown)
    assert not re.search(r"\b20\d\d\b", shown)


def test_the_shown_sql_is_made_of_what_the_engine_runs() -> None:
    shown = phase_sql(SPEC, Phase.BACKFILL)
    skeleton = [part for part in re.split(r"\{[a-z_]+\}", text("backfill_slice")) if part.strip()]
    assert all(part in shown for part in skeleton)
    assert 'INSERT INTO "public"."review_logs_YYYYMM"' in shown


def test_names_are_quoted() -> None:
    spec = Spec(table='odd schema.a"b', key="at; drop", interval="month")
    shown = phase_sql(spec, Phase.SYNC)
    assert '"odd schema"."a""b"' in shown
    assert '"at; drop"' in shown


def test_the_phases_before_cutover_mention_the_reverse_direction_nowhere() -> None:
    for phase in list(Phase)[:-2]:
        assert "_reverse_" not in phase_sql(SPEC, phase)
    assert "_reverse_insert" in phase_sql(SPEC, Phase.CUTOVER)
