"""What the helper for the distribution's packages says where they cannot be had."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import debian


def test_a_machine_without_apt_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(debian.UnavailableError, match="pgbouncer: there is no apt-get"):
        debian.unpacked("pgbouncer", "pgbouncer")


def test_a_package_that_is_not_to_be_had_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    script = "#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-cache", "dpkg-deb", "dpkg-query", "ldd"):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(debian, "_HOME", tmp_path / "debian")
    with pytest.raises(debian.UnavailableError, match="Unable to locate package"):
        debian.unpacked("nothing", "nothing")
    assert [path.name for path in (tmp_path / "debian").glob("*nothing*")] == [".nothing.lock"]


def test_libraries_that_a_program_lacks_are_found_missing(tmp_path: Path):
    """By the machine's own `ldd`, on a copy of a program that asks for a library of no machine."""
    directory = tmp_path / "usr" / "bin"
    directory.mkdir(parents=True)
    source = tmp_path / "empty.c"
    source.write_text("int main(void) { return 0; }\nint answer(void) { return 42; }\n")
    library = tmp_path / "libanswer-of-no-machine.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        subprocess.run(
            ["cc", "-o", directory / "program", source, "-Wl,--no-as-needed", library], check=True
        )
    except FileNotFoundError:
        pytest.skip("no C compiler here")
    assert debian.missing_libraries(tmp_path) == set()
    library.unlink()
    assert len(debian.missing_libraries(tmp_path)) == 1
