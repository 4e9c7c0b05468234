from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.tools.conftest import ROOT
from tests.tools.releases import ReleaseHost
from tools.bootstrap import (
    BootstrapError,
    bootstrap,
    find_uv,
    mirror_variables,
    pip_install,
    require_python,
)

PYPROJECT = """\
[project]
name = "tiny"
version = "0"
requires-python = ">=3.11"
[tool.uv]
package = false
"""

LOCK = """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "tiny"
version = "0"
source = { virtual = "." }
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that needs no packages, where a uv that logs its arguments is on PATH."""
    root = tmp_path / "tiny project"
    (root / "tools").mkdir(parents=True)
    shutil.copyfile(ROOT / "tools" / "bootstrap.py", root / "tools" / "bootstrap.py")
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "uv.lock").write_text(LOCK)
    put_uv(tmp_path / "bin", f'echo "$@" >> "{tmp_path}/uv.log"\nexec "{find_uv(ROOT)}" "$@"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("UV_OFFLINE", "1")
    return root


def put_uv(directory: Path, body: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "uv").write_text(f"#!/bin/sh\n{body}\n")
    (directory / "uv").chmod(0o755)


def syncs(project: Path) -> list[str]:
    """Return the arguments of each `uv sync` so far."""
    log = project.parent / "uv.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if line.startswith("sync")]


def test_an_old_python_is_refused_with_what_to_do() -> None:
    with pytest.raises(BootstrapError, match=r"3\.11 or newer is needed, this is 3\.10\.4"):
        require_python((3, 10, 4))
    require_python((3, 11, 0))


def test_the_locked_environment_is_made_once(project: Path) -> None:
    assert bootstrap(project)
    python = project / ".venv" / "bin" / "python"
    told = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str(project / ".venv")
    assert not bootstrap(project)
    assert len(syncs(project)) == 1
    assert "--frozen" in syncs(project)[0]


def test_it_runs_as_a_script_and_is_silent_when_there_is_nothing_to_do(project: Path) -> None:
    command = [sys.executable, str(project / "tools" / "bootstrap.py")]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "installing the locked packages" in first.stderr
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert second.stdout + second.stderr == ""


@pytest.mark.parametrize("file", ["uv.lock", "pyproject.toml"])
def test_a_changed_lock_or_project_file_is_followed(project: Path, file: str) -> None:
    bootstrap(project)
    with (project / file).open("a") as opened:
        opened.write("# changed\n")
    assert bootstrap(project)


def test_an_environment_whose_python_is_gone_is_made_anew(project: Path) -> None:
    bootstrap(project)
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/removed/python3")
    assert bootstrap(project)
    subprocess.run([python, "-c", ""], check=True)


def test_a_directory_that_is_no_environment_is_not_removed(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / "thesis.txt").write_text("years of work")
    with pytest.raises(BootstrapError, match="no Python environment; move it away"):
        bootstrap(project)
    assert (project / ".venv" / "thesis.txt").exists()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_sync_ended_halfway_is_made_good_by_the_next_run(
    project: Path, end: signal.Signals
) -> None:
    good = (project.parent / "bin" / "uv").read_text()
    pid = project.parent / "uv.pid"
    put_uv(
        project.parent / "bin",
        f'[ "$1" = --version ] && echo uv 0.9.0 && exit\necho $$ > "{pid}.new"\n'
        f'mv "{pid}.new" "{pid}"\nexec sleep 60',
    )
    command = [sys.executable, str(project / "tools" / "bootstrap.py")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not pid.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(end)
        assert process.wait(10) != 0
    if end == signal.SIGTERM:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)
    else:
        os.kill(int(pid.read_text()), signal.SIGKILL)
    (project.parent / "bin" / "uv").write_text(good)
    assert bootstrap(project)
    # What the killed one left half written must not pass for installed.
    assert "--reinstall" in syncs(project)[-1]
    (project / ".venv" / ".locked-packages").unlink()
    assert bootstrap(project)
    assert "--reinstall" not in syncs(project)[-1]


def test_a_failed_sync_says_what_to_do_and_is_not_taken_for_done(project: Path) -> None:
    put_uv(project.parent / "bin", '[ "$1" = --version ] && echo uv 0.9.0 && exit\nexit 2')
    for _ in range(2):
        with pytest.raises(BootstrapError, match=r"uv sync --frozen.*code 2.*UV_DEFAULT_INDEX"):
            bootstrap(project)


def test_two_runs_at_once_sync_once(project: Path) -> None:
    command = [sys.executable, str(project / "tools" / "bootstrap.py")]
    running = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(30) for process in running] == [0, 0, 0]
    assert len(syncs(project)) == 1


def make_wheel(size: str) -> bytes:
    """Return a wheel of a package `pebble` with one module."""
    files = {
        "pebble.py": f"SIZE = '{size}'\n",
        "pebble-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: pebble\nVersion: 1.0\n",
        "pebble-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        "pebble-1.0.dist-info/RECORD": "pebble.py,,\npebble-1.0.dist-info/METADATA,,\n"
        "pebble-1.0.dist-info/WHEEL,,\npebble-1.0.dist-info/RECORD,,\n",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.parametrize("told_to", ["UV_DEFAULT_INDEX", "PIP_INDEX_URL"])
def test_the_machines_mirror_of_the_package_index_is_asked_and_its_files_are_checked(
    project: Path,
    releases_on_loopback: ReleaseHost,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    told_to: str,
) -> None:
    name, wheel = "pebble-1.0-py3-none-any.whl", make_wheel("small")
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_CACHE_DIR", str(project.parent / "cache"))
    monkeypatch.setenv(told_to, releases_on_loopback.address + "/simple")
    checksum = hashlib.sha256(wheel).hexdigest()
    (project / "pyproject.toml").write_text(
        PYPROJECT.replace("[tool.uv]", 'dependencies = ["pebble"]\n[tool.uv]')
    )
    nowhere = "http://127.0.0.1:9"
    (project / "uv.lock").write_text(
        LOCK
        + f"""dependencies = [{{ name = "pebble" }}]

[[package]]
name = "pebble"
version = "1.0"
source = {{ registry = "{nowhere}/simple" }}
wheels = [{{ url = "{nowhere}/{name}", hash = "sha256:{checksum}" }}]
"""
    )
    releases_on_loopback.files["/simple/pebble/"] = f'<a href="/{name}">{name}</a>'.encode()
    releases_on_loopback.files[f"/{name}"] = make_wheel("large")
    with pytest.raises(BootstrapError, match="pip sync --require-hashes"):
        bootstrap(project)
    assert "Hash mismatch" in capfd.readouterr().err
    releases_on_loopback.files[f"/{name}"] = wheel
    assert bootstrap(project)
    python = project / ".venv" / "bin" / "python"
    told = subprocess.run(
        [python, "-c", "import pebble; print(pebble.SIZE)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "small\n"
    assert not bootstrap(project)


def test_without_a_mirror_uv_takes_files_from_where_the_lock_says() -> None:
    assert mirror_variables({"PIP_CONFIG_FILE": os.devnull, "PATH": os.environ["PATH"]}) is None


@pytest.mark.slow
def test_an_unfit_uv_on_path_is_passed_over_and_without_pip_it_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_uv(project.parent / "bin", "echo uv 0.1.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(project / "tools"))
    with pytest.raises(BootstrapError, match=r"Install uv 0\.8 or newer by hand"):
        bootstrap(project)


@pytest.mark.slow
def test_without_a_fit_uv_the_pinned_one_is_installed_by_pip_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_uv(project.parent / "bin", "echo uv 0.1.0")
    assert bootstrap(project)
    uv = find_uv(project)
    assert uv == str(project / ".tools" / "uv" / "bin" / "uv")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert find_uv(project) == uv


@pytest.mark.slow
def test_pip_install_replaces_a_half_made_environment(tmp_path: Path) -> None:
    directory = tmp_path / "half"
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "python").write_text("half")
    package = tmp_path / "package"
    package.mkdir()
    with pytest.raises(subprocess.CalledProcessError):
        pip_install(directory, str(package / "missing"))
    subprocess.run([directory / "bin" / "python", "-c", ""], check=True)
