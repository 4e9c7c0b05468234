from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tools.conftest import put_programs
from tools.on_path import find_on_path, numbers, version_of
from tools.programs import ALERTMANAGER, PROMETHEUS, PULUMI


def test_a_program_that_fits_is_found_with_its_version(tmp_path: Path) -> None:
    directory = put_programs(tmp_path / "machine", PROMETHEUS.files, "3.4.1")
    found = find_on_path(PROMETHEUS, tmp_path / "ours", str(directory))
    assert found is not None
    assert (found.directory, found.version) == (directory, "3.4.1")


@pytest.mark.parametrize("version", ["2.55.1", "4.0.0", "unknown"])
def test_a_program_of_another_version_is_not_taken(tmp_path: Path, version: str) -> None:
    directory = put_programs(tmp_path / "machine", PROMETHEUS.files, version)
    assert find_on_path(PROMETHEUS, tmp_path / "ours", str(directory)) is None


def test_pulumi_without_its_python_language_host_is_not_taken(tmp_path: Path) -> None:
    directory = put_programs(tmp_path / "machine", ("pulumi",), PULUMI.version)
    assert find_on_path(PULUMI, tmp_path / "ours", str(directory)) is None


def test_an_older_pulumi_than_the_sdk_is_not_taken_and_a_newer_one_is(tmp_path: Path) -> None:
    older = put_programs(tmp_path / "older", PULUMI.files, "3.258.0")
    newer = put_programs(tmp_path / "newer", PULUMI.files, "3.260.1")
    assert find_on_path(PULUMI, tmp_path / "ours", str(older)) is None
    found = find_on_path(PULUMI, tmp_path / "ours", f"{older}{os.pathsep}{newer}")
    assert found is not None
    assert found.directory == newer


def test_our_own_directory_on_path_is_passed_over(tmp_path: Path) -> None:
    ours = put_programs(tmp_path / "ours", ALERTMANAGER.files, ALERTMANAGER.version)
    assert find_on_path(ALERTMANAGER, ours, str(ours)) is None


def test_a_link_on_path_leads_to_the_directory_of_the_companions(tmp_path: Path) -> None:
    directory = put_programs(tmp_path / "opt", ALERTMANAGER.files, ALERTMANAGER.version)
    links = tmp_path / "bin"
    links.mkdir()
    (links / "alertmanager").symlink_to(directory / "alertmanager")
    found = find_on_path(ALERTMANAGER, tmp_path / "ours", str(links))
    assert found is not None
    assert found.directory == directory


def test_a_program_that_fails_tells_no_version(tmp_path: Path) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho 3.0.0; exit 1\n")
    program.chmod(0o755)
    assert version_of(program, ()) == ""
    assert version_of(tmp_path / "missing", ()) == ""


def test_the_version_is_read_out_of_what_the_vendors_print(tmp_path: Path) -> None:
    program = tmp_path / "go"
    program.write_text("#!/bin/sh\necho go1.26.8\n")
    program.chmod(0o755)
    assert version_of(program, ("env", "GOVERSION")) == "1.26.8"
    assert numbers("1.26.8") == (1, 26, 8)
