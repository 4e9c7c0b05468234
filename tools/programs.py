"""What is to be obtained: each program's version, files, release and Go module.

A version here is also pinned elsewhere (pyproject.toml for the Pulumi SDK, the go.mod files);
tests/tools/test_programs.py holds them together.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

Version = tuple[int, ...]
"""The numbers of a version, 3.259.0 as (3, 259, 0)."""


@dataclass(frozen=True)
class Release:
    """Where the vendor publishes; `{version}`, `{system}`, `{machine}` are filled in."""

    directory: str
    """Path of the release below the release host."""
    archive: str
    """Archive of all files; "" where the vendor publishes each file as it is."""
    checksums: str
    """File of lines `SHA-256  archive`, or of one file's SHA-256 alone (`{file}` is its name)."""
    amd64: str = "amd64"
    """What the vendor calls this processor in the archive's name."""
    host: str = "https://github.com"
    """The release host; the environment variable TOOLS_RELEASES names a mirror instead."""


@dataclass(frozen=True)
class Build:
    """A module of ours that builds the program."""

    module: str
    """Directory of go.mod, relative to the checkout."""
    version_variable: str
    """Go variable that the program reports as its version."""
    version_prefix: str = ""
    minutes: float = 1
    """Roughly how long it takes on two cores from nothing."""
    package: str = "tool"
    """What is built: a package of the module's own, or what its `tool` lines name."""
    is_all_files: bool = False
    """The package makes one executable that is each of the program's files by its name."""


@dataclass(frozen=True)
class Program:
    """One thing to obtain; the first of `files` is the one that tells its version."""

    name: str
    version: str
    at_least: Version
    """Lowest version that serves when found on PATH."""
    below: Version
    files: tuple[str, ...]
    version_arguments: tuple[str, ...]
    release: Release
    build: Build
    by_hand: str
    """Where its installation by hand is described."""

    def accepts(self, version: Version) -> bool:
        return self.at_least <= version < self.below


_PROMETHEUS_VERSION_VARIABLE = "github.com/prometheus/common/version.Version"

PULUMI = Program(
    name="pulumi",
    version="3.259.0",
    at_least=(3, 259, 0),
    below=(4,),
    files=(
        "pulumi",
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    ),
    version_arguments=("version",),
    release=Release(
        directory="pulumi/pulumi/releases/download/v{version}",
        archive="pulumi-v{version}-{system}-{machine}.tar.gz",
        checksums="pulumi-{version}-checksums.txt",
        amd64="x64",
    ),
    build=Build(
        module="tools",
        version_variable="github.com/pulumi/pulumi/sdk/v3/go/common/version.Version",
        version_prefix="v",
        minutes=4,
    ),
    by_hand="https://www.pulumi.com/docs/install/",
)

PROMETHEUS = Program(
    name="prometheus",
    version="3.16.0",
    at_least=(3,),
    below=(4,),
    files=("prometheus", "promtool"),
    version_arguments=("--version",),
    release=Release(
        directory="prometheus/prometheus/releases/download/v{version}",
        archive="prometheus-{version}.{system}-{machine}.tar.gz",
        checksums="sha256sums.txt",
    ),
    build=Build(
        module="tools/prometheus", version_variable=_PROMETHEUS_VERSION_VARIABLE, minutes=5
    ),
    by_hand="https://prometheus.io/download/",
)

ALERTMANAGER = Program(
    name="alertmanager",
    version="0.31.1",
    at_least=(0, 27),
    below=(1,),
    files=("alertmanager", "amtool"),
    version_arguments=("--version",),
    release=Release(
        directory="prometheus/alertmanager/releases/download/v{version}",
        archive="alertmanager-{version}.{system}-{machine}.tar.gz",
        checksums="sha256sums.txt",
    ),
    build=Build(
        module="tools/alertmanager", version_variable=_PROMETHEUS_VERSION_VARIABLE, minutes=1
    ),
    by_hand="https://prometheus.io/download/#alertmanager",
)

ETCD = Program(
    name="etcd",
    version="3.6.5",
    at_least=(3, 6),
    below=(4,),
    files=("etcd",),
    version_arguments=("--version",),
    release=Release(
        directory="etcd-io/etcd/releases/download/v{version}",
        archive="etcd-v{version}-{system}-{machine}.tar.gz",
        checksums="SHA256SUMS",
    ),
    build=Build(
        module="tools/kubernetes",
        version_variable="go.etcd.io/etcd/api/v3/version.Version",
        package="./etcd",
    ),
    by_hand="https://etcd.io/docs/v3.6/install/",
)

KUBERNETES = Program(
    name="kubernetes",
    version="1.35.0",
    at_least=(1, 34),
    below=(2,),
    files=("kube-apiserver", "kube-controller-manager"),
    version_arguments=("--version",),
    release=Release(
        directory="release/v{version}/bin/{system}/{machine}",
        archive="",
        checksums="{file}.sha256",
        host="https://dl.k8s.io",
    ),
    build=Build(
        module="tools/kubernetes",
        version_variable="k8s.io/component-base/version.gitVersion",
        version_prefix="v",
        minutes=5,
        package="./control-plane",
        is_all_files=True,
    ),
    by_hand="https://kubernetes.io/releases/download/",
)

PROGRAMS = (PULUMI, PROMETHEUS, ALERTMANAGER)
"""What the stack runs on."""

TEST_PROGRAMS = (ETCD, KUBERNETES)
"""What only the tests run, as a Kubernetes control plane."""


class ToolsError(Exception):
    """A program could not be obtained; the message says why and what to install by hand."""


@dataclass(frozen=True)
class Platform:
    """System and processor as Go names them: `linux` or `darwin`, `amd64` or `arm64`."""

    system: str
    machine: str


def this_platform() -> Platform:
    """Return the platform we run on; raise ToolsError on one that has no releases."""
    machines = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    system = platform.system().lower()
    machine = machines.get(platform.machine().lower())
    if system not in ("linux", "darwin") or machine is None:
        raise ToolsError(
            f"{platform.system()} on {platform.machine()} is not supported: there are "
            "programs for Linux and macOS, on amd64 and arm64"
        )
    return Platform(system, machine)


def archive_of(program: Program, on: Platform) -> str:
    """Return the name of the release archive for a platform; "" where there is none."""
    return _filled_in(program.release.archive, program, on)


def directory_of(program: Program, on: Platform) -> str:
    """Return the path of the release for a platform below its host."""
    return _filled_in(program.release.directory, program, on)


def _filled_in(pattern: str, program: Program, on: Platform) -> str:
    machine = program.release.amd64 if on.machine == "amd64" else on.machine
    return pattern.format(version=program.version, system=on.system, machine=machine)
