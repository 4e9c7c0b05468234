"""`python -m tools` in a checkout of its own, against a release host on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.tools.conftest import put_programs
from tests.tools.releases import ReleaseHost, archive, script
from tools.definitions import DEFINITIONS, Definitions
from tools.programs import ALERTMANAGER, ETCD, KUBERNETES, PROGRAMS, PROMETHEUS, PULUMI


def environment(host: str, path: str = "") -> dict[str, str]:
    """Return variables with `path` for PATH: whatever else the machine has is not found."""
    return {
        **os.environ,
        "PATH": path or "/nothing-here",
        "TOOLS_RELEASES": host,
        "NO_COLOR": "1",
    }


def start(checkout: Path, variables: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tools", *arguments],
        cwd=checkout,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests themselves run in the background, they were started to ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def run(checkout: Path, variables: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run `python -m tools`; return its exit code and all it said."""
    with start(checkout, variables, *arguments) as process:
        output, errors = process.communicate(timeout=60)
    return process.returncode, output + errors


def publish_all(host: ReleaseHost) -> None:
    for program in PROGRAMS:
        host.publish(program, archive(program))


def publish_what_tests_run(host: ReleaseHost, directory: Path) -> Path:
    """Publish all programs, those of the tests too; return a Go that is yet to be written."""
    publish_all(host)
    host.publish(ETCD, archive(ETCD))
    host.publish_files(KUBERNETES)
    return put_programs(directory, ("go",), "1.99.0") / "go"


def obtained(checkout: Path) -> set[str]:
    return {file.name for file in (checkout / ".tools" / "bin").iterdir() if file.exists()}


def fake_go(modules: dict[Definitions, Path]) -> str:
    """Return a `go` that tells where the modules lie, each with its checksum."""
    answers = "\n".join(
        f"""  {wanted.module}@v{wanted.version}) echo '{{"Dir": "{directory}", """
        f""""Sum": "{wanted.checksum}"}}' ;;"""
        for wanted, directory in modules.items()
    )
    return (
        '#!/bin/sh\n[ "$1" = env ] && echo go1.99.0 && exit\n'
        f'case "$4" in\n{answers}\n  *) echo "no such module" >&2; exit 1 ;;\nesac\n'
    )


def looks(checkout: Path) -> dict[Path, tuple[int, int]]:
    """Return, for all files obtained, what changes when one is written."""
    files = (checkout / ".tools").rglob("*")
    return {file: (file.lstat().st_ino, file.lstat().st_mtime_ns) for file in files}


def test_everything_is_obtained_once_and_a_second_run_does_nothing(
    checkout: Path, releases_on_loopback: ReleaseHost
) -> None:
    publish_all(releases_on_loopback)
    variables = environment(releases_on_loopback.address)
    code, said = run(checkout, variables)
    assert code == 0, said
    assert obtained(checkout) == {name for program in PROGRAMS for name in program.files}
    for program in PROGRAMS:
        assert f"{program.name} {program.version}: from {releases_on_loopback.address}" in said
    before = looks(checkout)
    releases_on_loopback.asked.clear()
    assert run(checkout, variables) == (0, "")
    assert releases_on_loopback.asked == []
    assert looks(checkout) == before


def test_what_only_the_tests_run_is_obtained_when_they_ask_for_it(
    checkout: Path, releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    go = publish_what_tests_run(releases_on_loopback, tmp_path / "bin")
    for wanted in DEFINITIONS:
        module = tmp_path / wanted.name / wanted.directory
        module.mkdir(parents=True)
        (module / "one.yaml").write_text(f"of: {wanted.name}\n")
    go.write_text(fake_go({wanted: tmp_path / wanted.name for wanted in DEFINITIONS}))
    variables = environment(releases_on_loopback.address, str(tmp_path / "bin"))
    assert run(checkout, variables)[0] == 0
    assert "etcd" not in obtained(checkout)
    code, said = run(checkout, variables, "--check", "--tests")
    assert code == 1
    assert f"etcd {ETCD.version}: would be downloaded" in said
    assert "keda 2.21.0: definitions would be taken from github.com/kedacore/keda/v2" in said
    code, said = run(checkout, variables, "--tests")
    assert code == 0, said
    assert {"etcd", *KUBERNETES.files} < obtained(checkout)
    for wanted in DEFINITIONS:
        directory = checkout / ".tools" / "crds" / wanted.name
        assert (directory / "one.yaml").read_text() == f"of: {wanted.name}\n"
    assert run(checkout, variables, "--tests") == (0, "")
    assert run(checkout, variables, "--check", "--tests")[0] == 0


def test_definitions_of_a_module_that_is_not_the_pinned_one_are_not_taken(
    checkout: Path, releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    go = publish_what_tests_run(releases_on_loopback, tmp_path / "bin")
    keda = replace(DEFINITIONS[0], checksum="h1:another")
    go.write_text(fake_go({keda: tmp_path}))
    variables = environment(releases_on_loopback.address, str(tmp_path / "bin"))
    code, said = run(checkout, variables, "--tests")
    assert code == 1
    assert "is not what was pinned: its checksum is h1:another" in said
    assert not (checkout / ".tools" / "crds").exists()
    assert not list((checkout / ".tools").glob("staging-*"))


def test_a_program_on_path_that_fits_is_linked_and_no_release_is_asked(
    checkout: Path, releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    machine = put_programs(tmp_path / "machine", PROMETHEUS.files, "3.2.1")
    variables = environment(releases_on_loopback.address, str(machine))
    code, said = run(checkout, variables, "prometheus")
    assert code == 0, said
    assert (checkout / ".tools" / "bin" / "promtool").readlink() == machine / "promtool"
    assert releases_on_loopback.asked == []


@pytest.mark.parametrize("change", ["vanished", "became unfit"])
def test_a_linked_program_that_changed_is_obtained_anew(
    checkout: Path, releases_on_loopback: ReleaseHost, tmp_path: Path, change: str
) -> None:
    publish_all(releases_on_loopback)
    machine = put_programs(tmp_path / "machine", PROMETHEUS.files, "3.2.1")
    variables = environment(releases_on_loopback.address, str(machine))
    assert run(checkout, variables, "prometheus")[0] == 0
    if change == "vanished":
        (machine / "prometheus").unlink()
    else:
        put_programs(machine, PROMETHEUS.files, "2.55.10")
    code, said = run(checkout, variables, "prometheus")
    assert code == 0, said
    program = checkout / ".tools" / "bin" / "prometheus"
    assert not program.is_symlink()
    assert program.read_bytes() == script(PROMETHEUS.version)


def test_a_file_removed_from_our_directory_is_obtained_again(
    checkout: Path, releases_on_loopback: ReleaseHost
) -> None:
    publish_all(releases_on_loopback)
    variables = environment(releases_on_loopback.address)
    assert run(checkout, variables, "alertmanager")[0] == 0
    (checkout / ".tools" / "bin" / "amtool").unlink()
    assert run(checkout, variables, "alertmanager")[0] == 0
    assert obtained(checkout) == set(ALERTMANAGER.files)


def test_a_tampered_archive_stops_everything_and_nothing_is_built_instead(
    checkout: Path, releases_on_loopback: ReleaseHost
) -> None:
    publish_all(releases_on_loopback)
    good = archive(PULUMI)
    releases_on_loopback.publish(PULUMI, archive(PULUMI, version="6.6.6"), checksum_of=good)
    code, said = run(checkout, environment(releases_on_loopback.address))
    assert code == 1
    assert "is not what its publisher made" in said
    assert f"install pulumi {PULUMI.version} by hand" in said
    assert "building" not in said
    assert "Traceback" not in said
    assert obtained(checkout) == set()
    assert not list((checkout / ".tools").glob("staging-*"))


@pytest.mark.slow
def test_without_a_release_host_and_without_go_it_says_what_to_install_by_hand(
    checkout: Path, tmp_path: Path
) -> None:
    variables = environment("http://127.0.0.1:9")
    # No package index either: Go cannot be had.
    variables |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    code, said = run(checkout, variables, "alertmanager")
    assert code == 1
    assert "out of reach" in said
    assert "install Go 1.26 or newer by hand" in said
    assert "Traceback" not in said


def test_a_release_that_does_not_run_here_is_not_installed(
    checkout: Path, releases_on_loopback: ReleaseHost
) -> None:
    releases_on_loopback.publish(ALERTMANAGER, archive(ALERTMANAGER, version="0.1.0"))
    code, said = run(checkout, environment(releases_on_loopback.address), "alertmanager")
    assert code == 1
    assert "tells version 0.1.0" in said
    assert obtained(checkout) == set()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_ended_halfway_is_made_good_by_the_next(
    checkout: Path, releases_on_loopback: ReleaseHost, end: signal.Signals
) -> None:
    path = releases_on_loopback.publish(ALERTMANAGER, archive(ALERTMANAGER))
    releases_on_loopback.stalled.add(path)
    variables = environment(releases_on_loopback.address)
    with start(checkout, variables, "alertmanager") as process:
        deadline = time.monotonic() + 30
        while path not in releases_on_loopback.asked and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path in releases_on_loopback.asked
        process.send_signal(end)
        _, errors = process.communicate(timeout=10)
    assert process.returncode != 0
    assert "Traceback" not in errors
    releases_on_loopback.stalled.clear()
    code, said = run(checkout, variables, "alertmanager")
    assert code == 0, said
    assert obtained(checkout) == set(ALERTMANAGER.files)
    assert not list((checkout / ".tools").glob("staging-*"))


def test_a_build_that_is_ended_takes_its_compilers_along(checkout: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    go = put_programs(tmp_path / "bin", ("go",), "1.99.0") / "go"
    go.write_text(
        "#!/bin/sh\n"
        '[ "$1" = env ] && echo go1.99.0 && exit\n'
        f'/bin/sleep 60 & echo $$ $! > "{pids}"; wait\n'
    )
    variables = environment("http://127.0.0.1:9", str(tmp_path / "bin"))
    with start(checkout, variables, "alertmanager") as process:
        deadline = time.monotonic() + 30
        while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.terminate()
        process.communicate(timeout=15)
    assert process.returncode == 128 + signal.SIGTERM
    go_process, compiler = (int(word) for word in pids.read_text().split())
    assert not psutil.pid_exists(go_process)
    # Killed, if not yet waited for by the init process that took it over.
    assert (
        not psutil.pid_exists(compiler) or psutil.Process(compiler).status() == psutil.STATUS_ZOMBIE
    )
    assert not list((checkout / ".tools").glob("staging-*"))


def test_two_runs_at_once_obtain_each_program_once(
    checkout: Path, releases_on_loopback: ReleaseHost
) -> None:
    path = releases_on_loopback.publish(ALERTMANAGER, archive(ALERTMANAGER))
    releases_on_loopback.stalled.add(path)
    variables = environment(releases_on_loopback.address)
    with start(checkout, variables, "alertmanager") as first:
        while path not in releases_on_loopback.asked:
            time.sleep(0.02)
        with start(checkout, variables, "alertmanager") as second:
            assert second.stderr is not None
            assert "another run is obtaining programs" in second.stderr.readline()
            # The first gives up its half archive and, asking again, is served the whole.
            releases_on_loopback.stalled.clear()
            releases_on_loopback.released.set()
            assert first.wait(30) == 0
            assert second.wait(30) == 0
            assert second.stderr.read() == ""
    assert releases_on_loopback.asked.count(path) == 2


def test_check_says_what_would_be_done_and_does_nothing(
    checkout: Path, releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    machine = put_programs(tmp_path / "machine", PROMETHEUS.files, "3.2.1")
    variables = environment(releases_on_loopback.address, str(machine))
    releases_on_loopback.publish(ALERTMANAGER, archive(ALERTMANAGER))
    assert run(checkout, variables, "alertmanager")[0] == 0
    releases_on_loopback.asked.clear()
    code, said = run(checkout, variables, "--check")
    assert code == 1
    lines = said.splitlines()
    assert f"pulumi {PULUMI.version}: would be downloaded from" in lines[0]
    assert "tools/go.mod" in lines[0]
    assert lines[1] == f"prometheus 3.2.1: would be linked from {machine}"
    assert lines[2].startswith(f"alertmanager {ALERTMANAGER.version}: in place, from http")
    assert releases_on_loopback.asked == []
    assert run(checkout, variables, "--check", "alertmanager")[0] == 0


def test_again_obtains_what_is_in_place(checkout: Path, releases_on_loopback: ReleaseHost) -> None:
    publish_all(releases_on_loopback)
    variables = environment(releases_on_loopback.address)
    assert run(checkout, variables, "alertmanager")[0] == 0
    releases_on_loopback.asked.clear()
    assert run(checkout, variables, "--again", "alertmanager")[0] == 0
    assert len(releases_on_loopback.asked) == 2


def test_an_unreadable_manifest_is_made_anew(
    checkout: Path, releases_on_loopback: ReleaseHost
) -> None:
    publish_all(releases_on_loopback)
    variables = environment(releases_on_loopback.address)
    assert run(checkout, variables, "alertmanager")[0] == 0
    manifest = checkout / ".tools" / "manifest.json"
    manifest.write_text('{"alertmanager": {"vers')
    assert run(checkout, variables, "alertmanager")[0] == 0
    assert json.loads(manifest.read_text())["alertmanager"]["source"] == "release"


def test_an_unknown_program_is_a_usage_error(checkout: Path) -> None:
    code, said = run(checkout, environment("http://127.0.0.1:9"), "grafana")
    assert code == 2
    assert "grafana" in said


def test_help_tells_the_programs_and_the_mirror_variable(checkout: Path) -> None:
    code, said = run(checkout, environment("http://127.0.0.1:9"), "--help")
    assert code == 0
    assert "TOOLS_RELEASES" in said
    assert "--check" in said
