from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.tools.conftest import ROOT
from tools.manifest import recipe_of
from tools.on_path import numbers
from tools.programs import (
    ALERTMANAGER,
    ETCD,
    KUBERNETES,
    PROGRAMS,
    PROMETHEUS,
    PULUMI,
    TEST_PROGRAMS,
    Platform,
    Program,
    archive_of,
    directory_of,
    this_platform,
)


def required(program: Program, module: str) -> str:
    """Return the version at which go.mod of `program` pins `module`."""
    text = (ROOT / program.build.module / "go.mod").read_text()
    found = re.search(rf"^\s*{re.escape(module)} v(\S+)", text, re.MULTILINE)
    assert found is not None
    return found.group(1)


def test_pulumi_is_pinned_at_one_version_in_the_sdk_and_in_the_go_modules() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert f"pulumi=={PULUMI.version}" in groups["stacks"]
    assert required(PULUMI, "github.com/pulumi/pulumi/pkg/v3") == PULUMI.version
    assert required(PULUMI, "github.com/pulumi/pulumi/sdk/v3") == PULUMI.version


def test_alertmanager_is_pinned_at_one_version() -> None:
    assert required(ALERTMANAGER, "github.com/prometheus/alertmanager") == ALERTMANAGER.version


def test_prometheus_is_pinned_at_one_version() -> None:
    # Prometheus 3.16.0 is the Go module v0.316.0.
    major, minor, patch = numbers(PROMETHEUS.version)
    assert required(PROMETHEUS, "github.com/prometheus/prometheus") == (
        f"0.{major * 100 + minor}.{patch}"
    )


def test_etcd_and_kubernetes_are_pinned_at_one_version_with_all_published_modules() -> None:
    assert required(ETCD, "go.etcd.io/etcd/server/v3") == ETCD.version
    assert required(KUBERNETES, "k8s.io/kubernetes") == KUBERNETES.version
    text = (ROOT / KUBERNETES.build.module / "go.mod").read_text()
    replaced = re.findall(r"^\tk8s\.io/\S+ => \S+ v(\S+)$", text, re.MULTILINE)
    # The published modules of Kubernetes 1.35.0 are v0.35.0.
    assert set(replaced) == {"0." + KUBERNETES.version.partition(".")[2]}


@pytest.mark.parametrize("program", [*PROGRAMS, *TEST_PROGRAMS], ids=lambda program: program.name)
def test_a_pinned_version_is_one_that_would_serve_on_path(program: Program) -> None:
    assert program.accepts(numbers(program.version))
    assert not program.accepts(())


def test_archives_are_named_as_the_vendors_name_them() -> None:
    linux, mac = Platform("linux", "amd64"), Platform("darwin", "arm64")
    assert archive_of(PULUMI, linux) == f"pulumi-v{PULUMI.version}-linux-x64.tar.gz"
    assert archive_of(PULUMI, mac) == f"pulumi-v{PULUMI.version}-darwin-arm64.tar.gz"
    assert archive_of(PROMETHEUS, linux) == f"prometheus-{PROMETHEUS.version}.linux-amd64.tar.gz"
    assert (
        archive_of(ALERTMANAGER, mac) == f"alertmanager-{ALERTMANAGER.version}.darwin-arm64.tar.gz"
    )


def test_kubernetes_publishes_each_executable_by_platform() -> None:
    linux = Platform("linux", "arm64")
    assert archive_of(KUBERNETES, linux) == ""
    assert directory_of(KUBERNETES, linux) == f"release/v{KUBERNETES.version}/bin/linux/arm64"
    assert archive_of(ETCD, linux) == f"etcd-v{ETCD.version}-linux-arm64.tar.gz"


def test_this_platform_is_one_that_has_releases() -> None:
    on = this_platform()
    assert on.system in ("linux", "darwin")
    assert on.machine in ("amd64", "arm64")


def test_a_changed_go_module_is_a_changed_recipe(checkout: Path) -> None:
    before = recipe_of(ALERTMANAGER, checkout)
    with (checkout / ALERTMANAGER.build.module / "go.sum").open("a") as file:
        file.write("\n")
    assert recipe_of(ALERTMANAGER, checkout) != before


def test_a_changed_package_of_our_own_is_a_changed_recipe(checkout: Path) -> None:
    before = {program.name: recipe_of(program, checkout) for program in TEST_PROGRAMS}
    with (checkout / ETCD.build.module / ETCD.build.package / "main.go").open("a") as file:
        file.write("\n")
    assert recipe_of(ETCD, checkout) != before["etcd"]
    assert recipe_of(KUBERNETES, checkout) == before["kubernetes"]
