"""`python -m tools`: obtain pulumi, Prometheus and Alertmanager into `.tools/bin`.

Imports are few here, and what a run with nothing to do does not need is imported late: every `make`
target passes through this.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from tools.definitions import DEFINITIONS, Definitions, definitions_in_place
from tools.manifest import in_place
from tools.programs import PROGRAMS, TEST_PROGRAMS, Program, ToolsError

ROOT = Path(__file__).resolve().parent.parent

_ALL = (*PROGRAMS, *TEST_PROGRAMS)
_NAMES = ", ".join(program.name for program in _ALL)

application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@application.command()
def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROGRAM]...", help=f"Which ones: {_NAMES}; by default the first three."
        ),
    ] = None,
    tests: Annotated[
        bool,
        typer.Option(
            "--tests",
            help="Also what only the tests run: a Kubernetes control plane (etcd, kube-apiserver, "
            "kube-controller-manager) and the custom resource definitions of KEDA and of the "
            "Prometheus operator, into .tools/crds.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only say what is in place and what is to be obtained; exit 1 if any is.",
        ),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Obtain them although they are in place.")
    ] = False,
) -> None:
    """Obtain pulumi, Prometheus and Alertmanager into .tools/bin.

    For each: the one on PATH if its version fits; else the vendor's release archive, checked
    against its published SHA-256 (TOOLS_RELEASES names a mirror of the release host); else a
    build from the Go modules pinned in tools/. What is in place already is left alone.
    """
    unknown = sorted(set(names or ()) - {program.name for program in _ALL})
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: no such program; there are {_NAMES}")
    default = _ALL if tests else PROGRAMS
    chosen = [program for program in _ALL if program.name in names] if names else list(default)
    missing = [program for program in chosen if again or in_place(program, ROOT) is None]
    missing_definitions = [
        wanted
        for wanted in DEFINITIONS
        if tests and (again or not definitions_in_place(wanted, ROOT))
    ]
    if check:
        _explain(chosen, missing)
        for wanted in missing_definitions:
            typer.echo(
                f"{wanted.name} {wanted.version}: definitions would be taken from {wanted.module}"
            )
        if missing or missing_definitions:
            raise typer.Exit(1)
    elif missing or missing_definitions:
        try:
            _obtain(missing, missing_definitions, again=again)
        except ToolsError as error:
            typer.echo(f"tools: {error}", err=True)
            raise typer.Exit(1) from None


def _obtain(missing: list[Program], definitions: list[Definitions], *, again: bool) -> None:
    from tools.bootstrap import exclusive, exit_terminated
    from tools.definitions import obtain_definitions
    from tools.obtain import obtain, remove_leftovers
    from tools.programs import this_platform
    from tools.release import Releases

    # Unwind on SIGTERM too, so that no build lives on without us.
    signal.signal(signal.SIGTERM, exit_terminated)
    on = this_platform()
    releases = Releases()
    with exclusive(ROOT / ".tools" / "programs.lock", "obtaining programs"):
        remove_leftovers(ROOT)
        for program in missing:
            # The run we waited for may have obtained it.
            if again or in_place(program, ROOT) is None:
                obtain(program, ROOT, on, releases)
        for wanted in definitions:
            if again or not definitions_in_place(wanted, ROOT):
                obtain_definitions(wanted, ROOT)


def _explain(chosen: list[Program], missing: list[Program]) -> None:
    from tools.on_path import find_on_path
    from tools.programs import archive_of, this_platform
    from tools.release import Releases

    releases = Releases()
    for program in chosen:
        entry = in_place(program, ROOT)
        if program not in missing and entry is not None:
            typer.echo(f"{program.name} {entry.version}: in place, from {entry.origin}")
            continue
        found = find_on_path(program, exclude=ROOT / ".tools" / "bin")
        if found is not None:
            typer.echo(f"{program.name} {found.version}: would be linked from {found.directory}")
            continue
        on = this_platform()
        url = releases.url(program, on, archive_of(program, on))
        typer.echo(
            f"{program.name} {program.version}: would be downloaded from {url}, or else be built "
            f"from the Go modules of {program.build.module}/go.mod"
        )


if __name__ == "__main__":
    application(prog_name="python -m tools")
