"""A real supervisord: programs start, stop, are restarted, and never outlive the stack."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stacks.local.layout import supervisor_socket
from stacks.local.supervisor import Program, Supervisor, SupervisorError, end_processes

SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    directory = tmp_path / "stack"
    directory.mkdir()
    supervisor = Supervisor(directory)
    supervisor.start()
    yield supervisor
    supervisor.stop()


def await_condition(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def children(supervisor: Supervisor) -> list[psutil.Process]:
    return psutil.Process(supervisor.pid()).children()


def sleeper(directory: Path, name: str = "sleeper", **changes: object) -> Program:
    return Program(**{"name": name, "command": SLEEP, "directory": directory, **changes})  # pyright: ignore[reportArgumentType]


def test_a_program_runs_until_it_is_removed(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run(sleeper(tmp_path))
    state = supervisor.state("sleeper")
    assert state is not None
    assert state.running
    (process,) = children(supervisor)
    supervisor.remove("sleeper")
    assert supervisor.state("sleeper") is None
    assert not process.is_running()


def test_starting_it_again_replaces_the_process(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run(sleeper(tmp_path))
    (first,) = children(supervisor)
    supervisor.run(sleeper(tmp_path, environment={"A": "b"}))
    (second,) = children(supervisor)
    assert first.pid != second.pid
    await_condition(lambda: second.environ().get("A") == "b")


def test_secrets_are_in_the_environment_not_in_arguments_or_readable_files(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    secret = "p%s{}:w'ord"
    supervisor.run(sleeper(tmp_path, environment={"DATABASE_URL": secret}))
    (process,) = children(supervisor)
    # A moment passes between fork and exec.
    await_condition(lambda: process.environ().get("DATABASE_URL") == secret)
    assert secret not in " ".join(process.cmdline())
    for path in supervisor.directory.rglob("*"):
        if path.is_file() and "sleeper" in path.name and path.suffix == ".ini":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_program_that_dies_is_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run(sleeper(tmp_path))
    await_condition(lambda: (s := supervisor.state("sleeper")) is not None and s.state == "RUNNING")
    (first,) = children(supervisor)
    first.kill()
    await_condition(lambda: any(child.pid != first.pid for child in children(supervisor)))


def test_a_program_that_cannot_run_is_told_as_not_running(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    failing = (sys.executable, "-c", "raise SystemExit('no luck')")
    supervisor.run(Program("failing", failing, tmp_path))
    await_condition(lambda: "no luck" in supervisor.log_tail("failing"))
    await_condition(
        lambda: (s := supervisor.state("failing")) is not None and s.state != "STARTING"
    )
    state = supervisor.state("failing")
    assert state is not None
    assert not state.running


def test_what_a_killed_supervisor_left_behind_is_ended_before_the_next_start(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.run(sleeper(tmp_path))
    (orphan,) = children(supervisor)
    os.kill(supervisor.pid(), signal.SIGKILL)
    await_condition(lambda: not supervisor.alive())
    assert orphan.is_running()
    supervisor.start()
    assert supervisor.alive()
    await_condition(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)


def test_stopping_leaves_no_process(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run(sleeper(tmp_path, "one"))
    supervisor.run(sleeper(tmp_path, "two"))
    processes = [psutil.Process(supervisor.pid()), *children(supervisor)]
    supervisor.stop()
    assert not any(process.is_running() for process in processes)
    assert end_processes(supervisor.directory) == []


def test_starting_a_program_without_supervisord_is_an_error(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    (tmp_path / "programs").mkdir()
    with pytest.raises(SupervisorError, match="sleeper"):
        supervisor.run(sleeper(tmp_path))


def test_two_stacks_do_not_see_each_others_programs(supervisor: Supervisor, tmp_path: Path) -> None:
    other = Supervisor(tmp_path / "other")
    other.directory.mkdir()
    other.start()
    try:
        supervisor.run(sleeper(tmp_path))
        assert other.state("sleeper") is None
        other.stop()
        state = supervisor.state("sleeper")
        assert state is not None
        assert state.running
    finally:
        other.stop()


def test_the_socket_of_a_deep_checkout_lies_in_a_private_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    socket = supervisor_socket(deep)
    assert len(str(socket)) < 108
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert socket == supervisor_socket(deep)
