"""The database steps of a stack: schema, history, and the phases of the partitioning, as a chain.

Every step depends on the one before, so that a longer `partitioning.phase` adds steps at the end
and a shorter one takes them back from there.
"""

from __future__ import annotations

from pathlib import Path

import pulumi

import migrations.schema
from migrations.partition.phases import Phase
from migrations.partition.spec import Spec, SpecError, load_spec
from migrations.partition.statements import phase_sql
from stacks.platform import PeriodicSpec, Platform, StepSpec
from stacks.settings import (
    PHASES,
    PROJECT,
    AnkiHistorySettings,
    HistorySettings,
    PartitioningSettings,
    Settings,
    SettingsError,
    SimulatedHistorySettings,
)

STEPS = ("schema", "install", "history", *PHASES[PHASES.index("prepare") :])
"""Every step there may be, in order."""

_SECONDS_PER_DAY = 86_400


def require_files(settings: Settings, root: Path) -> None:
    """Read the files that the settings name, as a step would; paths are relative to `root`.

    Raises SettingsError naming the key whose file is missing or wrong.
    """
    if settings.aws is not None:
        _require_in_image(settings)
    try:
        load_spec(root / settings.partitioning.spec)
    except (OSError, SpecError) as error:
        raise SettingsError(f"{PROJECT}:partitioning.spec: {error}") from None
    history = settings.history
    if isinstance(history, AnkiHistorySettings) and not (root / history.path).is_file():
        raise SettingsError(f"{PROJECT}:history.path: got {str(history.path)!r}, takes a file")


def _require_in_image(settings: Settings) -> None:
    """Refuse files that steps in the cluster will not find: their image has the programs only."""
    if isinstance(settings.history, AnkiHistorySettings):
        raise SettingsError(
            f"{PROJECT}:history.source: got 'anki', whose file is not in the image; takes "
            "'simulated' or 'none', and `python -m history anki` by hand"
        )
    spec = settings.partitioning.spec
    if spec.is_absolute() or spec.parts[:1] != ("migrations",) or ".." in spec.parts:
        raise SettingsError(
            f"{PROJECT}:partitioning.spec: got {str(spec)!r}, which is not in the image; takes a "
            "file below migrations/"
        )


def database_steps(
    platform: Platform, partitioning: PartitioningSettings, history: HistorySettings
) -> dict[str, pulumi.Resource]:
    """Declare the steps up to `partitioning.phase`; return them by name, in order."""
    steps: dict[str, pulumi.Resource] = {}

    def declare(name: str, spec: StepSpec) -> None:
        steps[name] = platform.step(name, spec, list(steps.values())[-1:])

    table = load_spec(partitioning.spec)
    wanted = PHASES[1 : PHASES.index(partitioning.phase) + 1]
    for phase in wanted:
        if phase == "schema":
            declare("schema", schema_step())
            if platform.workers_role is not None:
                declare("install", install_step(platform.workers_role))
            if (step := history_step(history)) is not None:
                declare("history", step)
        else:
            declare(phase, partition_step(partitioning, table, Phase(phase)))
    return steps


MAINTAINED_FROM = "prepare"
"""The phase from which on there are partitions to look after."""


def maintenance(partitioning: PartitioningSettings) -> PeriodicSpec | None:
    """Return what keeps partitions ahead of the calendar; None before there are any."""
    if PHASES.index(partitioning.phase) < PHASES.index(MAINTAINED_FROM):
        return None
    return PeriodicSpec(
        command=(
            "-m",
            "migrations.partition",
            "maintain",
            f"--spec={partitioning.spec}",
            f"--lock-timeout={partitioning.lock_timeout_milliseconds}",
            f"--attempts={partitioning.lock_attempts}",
            "--json",
        ),
        # Daily, and months ahead: a few runs that fail do no harm.
        schedule="17 3 * * *",
    )


def schema_step() -> StepSpec:
    """The upgrade of the schema to the newest revision."""
    return StepSpec(
        command=("-m", "migrations", "upgrade", "--json"),
        sql=migrations.schema.sql(),
    )


def install_step(role: str) -> StepSpec:
    """What the services need in the database, made by the owner for `role`, which is not."""
    # With all that the workers compute with: only where it is needed.
    from workers.installation import installation_sql

    return StepSpec(
        command=("-m", "workers", "install", f"--role={role}", "--json"),
        sql=installation_sql(role),
    )


def history_step(history: HistorySettings) -> StepSpec | None:
    """The load of a review history into empty tables; None where there is none to load."""
    match history:
        case SimulatedHistorySettings():
            arguments = (
                "simulate",
                f"--actors={history.actors}",
                f"--reviews={history.reviews}",
                f"--months={history.months}",
                f"--seed={history.seed}",
            )
        case AnkiHistorySettings():
            arguments = ("anki", str(history.path))
        case _:
            return None
    return StepSpec(
        command=("-m", "history", *arguments, "--json"),
        sql="-- COPY into actors, flashcards, review_logs, nodes and edges, where they are empty\n",
    )


def partition_step(partitioning: PartitioningSettings, table: Spec, phase: Phase) -> StepSpec:
    """One phase of the online partitioning of the table in `partitioning.spec`."""
    engine = ("-m", "migrations.partition")
    options = (
        f"--spec={partitioning.spec}",
        f"--lock-timeout={partitioning.lock_timeout_milliseconds}",
        f"--attempts={partitioning.lock_attempts}",
        "--json",
    )
    extra: tuple[str, ...] = ()
    if phase in (Phase.BACKFILL, Phase.VERIFY):
        extra = (f"--jobs={partitioning.jobs}",)
    elif phase is Phase.RETIRE:
        extra = (f"--hold={int(partitioning.hold_days * _SECONDS_PER_DAY)}",)
    refusal = ""
    undo: tuple[str, ...] = (*engine, "undo", phase.value, *options)
    if phase is Phase.RETIRE:
        undo = ()
        refusal = (
            "retire cannot be taken back: it dropped the old table. "
            "Set learning-platform:partitioning.phase to retire again"
        )
    return StepSpec(
        command=(*engine, phase.value, *options, *extra),
        sql=phase_sql(table, phase),
        undo=undo,
        refusal=refusal,
    )
