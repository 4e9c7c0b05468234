from __future__ import annotations

import socket
import time
import urllib.request
from pathlib import Path

import pytest

from tests.tools.releases import ReleaseHost, archive, silent_host
from tools.programs import (
    ALERTMANAGER,
    ETCD,
    KUBERNETES,
    PROGRAMS,
    PROMETHEUS,
    Program,
    this_platform,
)
from tools.progress import Step
from tools.release import Releases, ReleaseUnavailable, TamperedArchive


def fetch(releases: Releases, program: Program, directory: Path) -> str:
    directory.mkdir(exist_ok=True)
    return releases.fetch(program, this_platform(), directory, Step("test", None))


@pytest.mark.parametrize("program", [*PROGRAMS, ETCD], ids=lambda program: program.name)
def test_a_good_archive_gives_the_programs_files_and_no_others(
    program: Program, releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    path = releases_on_loopback.publish(program, archive(program))
    url = fetch(Releases(releases_on_loopback.address), program, tmp_path / "staging")
    assert url == releases_on_loopback.address + path
    assert {file.name for file in (tmp_path / "staging").iterdir()} == set(program.files)
    assert all(file.stat().st_mode & 0o111 for file in (tmp_path / "staging").iterdir())
    assert [file.name for file in tmp_path.iterdir()] == ["staging"]


def test_files_published_as_they_are_are_taken_when_their_checksums_agree(
    releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    path = releases_on_loopback.publish_files(KUBERNETES)
    url = fetch(Releases(releases_on_loopback.address), KUBERNETES, tmp_path / "staging")
    assert url == releases_on_loopback.address + path
    assert {file.name for file in (tmp_path / "staging").iterdir()} == set(KUBERNETES.files)
    assert all(file.stat().st_mode & 0o111 for file in (tmp_path / "staging").iterdir())


def test_a_tampered_file_is_refused(releases_on_loopback: ReleaseHost, tmp_path: Path) -> None:
    releases_on_loopback.publish_files(KUBERNETES, checksum_of=b"what was published")
    with pytest.raises(TamperedArchive, match=r"kube-apiserver is not what its publisher made"):
        fetch(Releases(releases_on_loopback.address), KUBERNETES, tmp_path / "staging")
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_host_out_of_reach_does_not_keep_from_asking_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOOLS_RELEASES", raising=False)
    asked: list[str] = []

    def refuse(request: urllib.request.Request, timeout: float) -> None:
        asked.append(request.host)
        raise ConnectionRefusedError

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    releases = Releases()
    for program in (PROMETHEUS, KUBERNETES, ETCD):
        with pytest.raises(ReleaseUnavailable, match="out of reach"):
            fetch(releases, program, tmp_path / "staging")
    assert asked == ["github.com", "dl.k8s.io"]


def test_the_mirror_named_in_the_environment_is_asked(
    releases_on_loopback: ReleaseHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases_on_loopback.publish(ALERTMANAGER, archive(ALERTMANAGER))
    monkeypatch.setenv("TOOLS_RELEASES", releases_on_loopback.address + "/")
    assert fetch(Releases(), ALERTMANAGER, tmp_path / "staging").startswith(
        releases_on_loopback.address + "/prometheus/alertmanager/releases/download/v"
    )


def test_a_tampered_archive_is_refused_and_nothing_of_it_stays(
    releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    good = archive(PROMETHEUS)
    releases_on_loopback.publish(PROMETHEUS, good + b"\0", checksum_of=good)
    with pytest.raises(TamperedArchive, match=r"not what its publisher made.*by hand") as refusal:
        fetch(Releases(releases_on_loopback.address), PROMETHEUS, tmp_path / "staging")
    assert releases_on_loopback.address in str(refusal.value)
    assert list((tmp_path / "staging").iterdir()) == []


def test_an_archive_without_a_published_checksum_is_not_even_downloaded(
    releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    path = releases_on_loopback.publish(PROMETHEUS, archive(PROMETHEUS))
    checksums = next(name for name in releases_on_loopback.files if name != path)
    releases_on_loopback.files[checksums] = b"ab  prometheus-0.0.1.linux-amd64.tar.gz\n"
    with pytest.raises(ReleaseUnavailable, match="publishes no checksum"):
        fetch(Releases(releases_on_loopback.address), PROMETHEUS, tmp_path / "staging")
    assert path not in releases_on_loopback.asked


def test_a_release_that_does_not_exist_is_unavailable_but_the_host_is_asked_for_others(
    releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    releases = Releases(releases_on_loopback.address)
    with pytest.raises(ReleaseUnavailable, match="404"):
        fetch(releases, PROMETHEUS, tmp_path / "staging")
    releases_on_loopback.publish(ALERTMANAGER, archive(ALERTMANAGER))
    fetch(releases, ALERTMANAGER, tmp_path / "staging")


def test_a_broken_download_is_tried_again_and_is_no_tampering(
    releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    path = releases_on_loopback.publish(PROMETHEUS, archive(PROMETHEUS))
    releases_on_loopback.broken.add(path)
    with pytest.raises(ReleaseUnavailable, match="broke off"):
        fetch(Releases(releases_on_loopback.address), PROMETHEUS, tmp_path / "staging")
    assert releases_on_loopback.asked.count(path) == 3


def test_an_archive_that_lacks_a_program_is_unavailable(
    releases_on_loopback: ReleaseHost, tmp_path: Path
) -> None:
    releases_on_loopback.publish(PROMETHEUS, archive(PROMETHEUS, leave_out="promtool"))
    with pytest.raises(ReleaseUnavailable, match="lacks promtool"):
        fetch(Releases(releases_on_loopback.address), PROMETHEUS, tmp_path / "staging")


def test_a_host_that_refuses_connections_is_asked_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    releases = Releases(address)
    with pytest.raises(ReleaseUnavailable, match="out of reach"):
        fetch(releases, PROMETHEUS, tmp_path / "staging")
    # Were it asked again, it would answer now.
    port = int(address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(0.2)
        with pytest.raises(ReleaseUnavailable, match="out of reach"):
            fetch(releases, ALERTMANAGER, tmp_path / "staging")
        with pytest.raises(TimeoutError):
            listening.accept()


def test_a_host_that_never_answers_is_given_up_once_and_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.release._FIRST_ANSWER_SECONDS", 0.3)
    with silent_host() as (address, taken):
        releases = Releases(address)
        for program in (PROMETHEUS, ALERTMANAGER):
            with pytest.raises(ReleaseUnavailable, match="out of reach"):
                fetch(releases, program, tmp_path / "staging")
        time.sleep(0.1)
        assert len(taken) == 1
