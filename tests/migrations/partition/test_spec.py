from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from migrations.partition.spec import SpecError, load_spec
from tests.migrations.partition.application import ROOT, write_spec


def refusal(path: Path, **changes: object) -> str:
    with pytest.raises(SpecError) as error:
        load_spec(write_spec(path / "spec.toml", **changes))
    return str(error.value)


def test_the_spec_of_review_logs_is_read() -> None:
    spec = load_spec(ROOT / "migrations" / "review_logs.toml")
    assert (spec.schema_name, spec.table_name, spec.key) == ("public", "review_logs", "reviewed_at")
    assert (spec.ahead, spec.default_partition, spec.hold) == (3, False, timedelta(0))


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("7 days", timedelta(days=7)),
        ("1 day", timedelta(days=1)),
        ("36 hours", timedelta(hours=36)),
        ("0 seconds", timedelta(0)),
        ("2 weeks", timedelta(weeks=2)),
    ],
)
def test_the_hold_is_a_duration(tmp_path: Path, text: str, duration: timedelta) -> None:
    assert load_spec(write_spec(tmp_path / "spec.toml", hold=text)).hold == duration


def test_the_retention_is_a_number_of_months(tmp_path: Path) -> None:
    assert load_spec(write_spec(tmp_path / "spec.toml", retention="2 years")).retention == 24
    assert "24 months" in refusal(tmp_path, retention="a while")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, ["unknown key `colour`", "known are table, key"]),
        ({"table": "review_logs"}, ["`table` is 'review_logs'", "schema and name"]),
        ({"interval": "week"}, ["`interval` is 'week'", "'month'"]),
        ({"ahead": 0}, ["`ahead` is 0", "greater than or equal to 1"]),
        ({"ahead": "3"}, ["`ahead` is '3'"]),
        ({"default_partition": "no"}, ["`default_partition` is 'no'"]),
        ({"hold": "soon"}, ["`hold` is 'soon'", '"7 days"']),
    ],
)
def test_a_wrong_or_unknown_key_is_refused_naming_it(
    tmp_path: Path, changes: dict[str, object], words: list[str]
) -> None:
    message = refusal(tmp_path, **changes)
    assert all(word in message for word in words), message


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, colour="red", ahead=-1)
    assert "colour" in message
    assert "ahead" in message


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the spec"):
        load_spec(tmp_path / "none.toml")
    (tmp_path / "spec.toml").write_text("table = ")
    with pytest.raises(SpecError, match="is not TOML"):
        load_spec(tmp_path / "spec.toml")
