from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tools.environment import pulumi_environment


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PULUMI_"):
            monkeypatch.delenv(name)


def test_state_and_passphrase_lie_in_the_checkout_and_are_private(tmp_path: Path) -> None:
    environment = pulumi_environment(tmp_path)
    passphrase = Path(environment["PULUMI_CONFIG_PASSPHRASE_FILE"])
    assert environment["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/.local/state"
    assert environment["PULUMI_HOME"].startswith(str(tmp_path))
    assert passphrase.parent == tmp_path / ".local"
    assert passphrase.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".local" / "state").stat().st_mode & 0o777 == 0o700
    assert len(passphrase.read_text()) >= 32


def test_the_passphrase_is_made_once(tmp_path: Path) -> None:
    path = Path(pulumi_environment(tmp_path)["PULUMI_CONFIG_PASSPHRASE_FILE"])
    before = path.read_text()
    pulumi_environment(tmp_path)
    assert path.read_text() == before


def test_runs_at_the_same_time_agree_on_one_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".local" / "passphrase"
    link = Path.hardlink_to
    seen: list[str] = []

    def another_run_is_first(self: Path, target: Path) -> None:
        other = threading.Thread(target=lambda: seen.append(_made_by_another_run(path)))
        other.start()
        other.join()
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", another_run_is_first)
    pulumi_environment(tmp_path)
    assert path.read_text() == seen[0]
    assert [file.name for file in path.parent.iterdir() if file.is_file()] == ["passphrase"]


def _made_by_another_run(path: Path) -> str:
    path.write_text("the other one's")
    return path.read_text()


def test_what_the_user_has_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://team-state")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "theirs")
    environment = pulumi_environment(tmp_path)
    assert environment["PULUMI_BACKEND_URL"] == "s3://team-state"
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in environment


def test_obtained_tools_come_first_on_path_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = str(tmp_path / ".tools" / "bin")
    monkeypatch.setenv("PATH", f"/usr/bin:{tools}:/bin")
    assert pulumi_environment(tmp_path)["PATH"] == f"{tools}:/usr/bin:/bin"
