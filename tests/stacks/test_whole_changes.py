"""The whole program by the real engine: what a change to staging does, and what it leaves alone.

The cluster is a real control plane whose pods run a program that only pretends: a step ends at
once, or fails where it is told to, a service says that it is ready. One stack for the module, the
tests in order. What the programs themselves do in the cluster is in test_whole_pods.py.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.control_plane import running_control_plane
from tests.kubernetes.node import running_node
from tests.kubernetes.pods import Tempo
from tests.stacks import whole
from tests.stacks.engine import ROOT, Engine, operations
from tests.stacks.stand_ins import StandIns, running_stand_ins

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SERVICES = ("complexity", "exporter", "fsrs-optimization", "scheduler")
ROLLED = {f"platform-{service} Deployment": "update" for service in SERVICES}
PHASE: dict[str, Any] = {"phase": "sync"}
VERIFY: dict[str, Any] = {"phase": "verify"}
ROTATED: dict[str, Any] = {"queue": {"passwordGeneration": 2}}
NO_HISTORY: dict[str, Any] = {"source": "none"}

PROGRAM = """#!{python} -S
import os, signal, sys, time
arguments = sys.argv[2:]
module, name = arguments[:2]
directory = {directory!r}
if module == "workers" and name != "install":
    import http.server
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_): pass
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    address = os.environ["METRICS_HOST"], int(os.environ["METRICS_PORT"])
    http.server.HTTPServer(address, Handler).serve_forever()
with open(directory + "/ran", "a") as file:
    file.write(" ".join(arguments[:3]) + "\\n")
if os.path.exists(directory + "/fails-" + name):
    print("first of all,", name, file=sys.stderr)
    print("the disk is full", file=sys.stderr)
    # Not tried again: see stacks/kubernetes/step.py.
    sys.exit(2)
print("{{}}")
"""


@dataclass
class Staging:
    """The stack, what it runs on, and the folder by which its pods are told what to do."""

    engine: Engine
    stand_ins: StandIns
    pretended: Path

    def configure(self, **changed: Any) -> None:
        sections = {"partitioning": PHASE, "history": NO_HISTORY, **changed}
        config = whole.configuration("staging", **sections)
        config["learning-platform:history"] = sections["history"]
        self.engine.set_config(config)

    def changes(self, **changed: Any) -> dict[str, str]:
        """Return what an update would do with other settings, by resource."""
        self.configure(**changed)
        return operations(self.engine.changes())

    def ran(self) -> list[str]:
        """Return what the pods of steps ran since this was last asked."""
        file = self.pretended / "ran"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    directory = tmp_path_factory.mktemp("whole")
    pretended = directory / "pretended"
    pretended.mkdir()
    pretended.chmod(0o777)
    program = pretended / "python"
    program.write_text(PROGRAM.format(python=sys.executable, directory=str(pretended)))
    program.chmod(0o755)
    with (
        running_control_plane(directory / "plane") as plane,
        running_node(plane, tempo=Tempo(0.5, 0.5)) as node,
        running_stand_ins(directory, plane, patience=120) as stand_ins,
    ):
        node.image = replace(node.image, programs={"python": program})
        engine = stand_ins.engine(directory / "engine", "staging")
        whole.lay_out(engine, partitioning=PHASE)
        made = Staging(engine, stand_ins, pretended)
        made.configure()
        yield made


def test_the_first_update_makes_what_is_in_aws_so_that_the_image_can_be_pushed(
    staging: Staging,
) -> None:
    """As docs/bootstrap.md has it: without the cluster's contents, which need the image."""
    staging.engine.up("--exclude", "**::platform-kubernetes", "--exclude-dependents")
    (repository,) = staging.stand_ins.cloud.client("ecr").describe_repositories()["repositories"]
    assert staging.engine.outputs()["registry_url"] == repository["repositoryUri"]
    assert staging.ran() == []


def test_the_second_makes_the_rest_and_leaves_nothing_to_do(staging: Staging) -> None:
    staging.engine.up()
    assert [line.split()[1] for line in staging.ran()] == [
        "roles",
        "upgrade",
        "install",
        "prepare",
        "sync",
    ]
    staging.engine.expect_no_changes()
    staging.engine.refresh("--expect-no-changes")


def test_the_next_phase_is_one_step_with_the_sql_it_will_run(staging: Staging) -> None:
    staging.configure(partitioning={"phase": "backfill"})
    changes = staging.engine.changes()
    assert operations(changes) == {
        "platform-backfill Step": "create",
        "platform-backfill Job": "create",
    }
    shown = "\n".join(changes["platform-backfill Step"]["newState"]["inputs"]["sql"])
    assert "INSERT INTO" in shown.upper()


def test_a_step_that_fails_fails_the_update_with_the_end_of_its_log(staging: Staging) -> None:
    staging.configure(partitioning={"phase": "verify"})
    failing = staging.pretended / "fails-backfill"
    failing.touch()
    failed = staging.engine.up(check=False)
    assert failed.returncode
    assert "the disk is full" in failed.stdout + failed.stderr
    failing.unlink()
    # What comes after it was not tried.
    assert [line.split()[1] for line in staging.ran()] == ["backfill"]


def test_the_next_update_runs_it_again_and_goes_on(staging: Staging) -> None:
    staging.engine.up()
    assert [line.split()[1] for line in staging.ran()] == ["backfill", "verify"]


def test_another_image_and_engine_version_roll_what_serves_and_run_no_step_again(
    staging: Staging,
) -> None:
    image = f"sha256:{'fedcba9876543210' * 4}"
    changed = staging.changes(
        partitioning=VERIFY, aws={"image": image, "database": {"version": "19"}}
    )
    assert "replace" in changed.pop("platform-database ParameterGroup")
    assert changed == {
        "platform-database Instance": "update",
        "platform-maintain CronJob": "update",
        **ROLLED,
    }


def test_another_password_changes_the_secret_and_rolls_what_reads_it(staging: Staging) -> None:
    changed = staging.changes(partitioning=VERIFY, aws=ROTATED)
    assert "replace" in changed.pop("platform-queue-password RandomPassword")
    assert changed == {
        "platform-queue-workers User": "update",
        "platform-queue Secret": "update",
        **ROLLED,
    }


def test_a_new_migration_is_another_job_of_the_step_and_nothing_else(staging: Staging) -> None:
    migrations = staging.engine.program / "migrations"
    migrations.unlink()
    shutil.copytree(ROOT / "migrations", migrations)
    newest = max((migrations / "versions").glob("0*.py"))
    number = int(newest.name[:4])
    added = newest.with_name(f"{number + 1:04}_another.py")
    source = newest.read_text().replace(
        f'revision = "{number:04}"', f'revision = "{number + 1:04}"'
    )
    before = f'down_revision = "{number - 1:04}"'
    added.write_text(source.replace(before, f'down_revision = "{number:04}"'))
    added.with_suffix(".sql").write_text("SELECT 'another';\n")
    changed = staging.changes(partitioning=VERIFY)
    assert "replace" in changed.pop("platform-schema Job")
    assert changed == {"platform-schema Step": "update"}


def test_a_phase_back_deletes_its_steps_and_what_cannot_be_undone_fails_the_update(
    staging: Staging,
) -> None:
    changed = staging.changes(partitioning={"phase": "prepare"}, aws=ROTATED)
    deleted = {name for name, operation in changed.items() if operation == "delete"}
    assert deleted == {
        f"platform-{phase} {kind}"
        for phase in ("sync", "backfill", "verify")
        for kind in ("Step", "Job")
    }
    failing = staging.pretended / "fails-undo"
    failing.touch()
    refused = staging.engine.up(check=False)
    assert refused.returncode
    assert "the disk is full" in refused.stdout + refused.stderr
    failing.unlink()
    # The new migration came first.
    assert staging.ran() == [
        "migrations upgrade --json",
        "migrations.partition undo verify",
    ]


def test_the_next_update_takes_the_steps_back_the_last_one_first(staging: Staging) -> None:
    staging.engine.up()
    assert staging.ran() == [
        f"migrations.partition undo {phase}" for phase in ("verify", "backfill", "sync")
    ]
    staging.engine.expect_no_changes()


def test_destroying_it_takes_no_step_back(staging: Staging) -> None:
    staging.engine.destroy("--run-program")
    assert staging.ran() == []
    assert staging.stand_ins.cloud.client("rds").describe_db_instances()["DBInstances"] == []
    left = json.loads(staging.engine.pulumi("stack", "export", "-s", "staging").stdout)
    assert not left["deployment"].get("resources")
