"""A database step in the cluster: a Job that runs once, and is awaited.

The Job's name holds a digest of what it does, so that a step with other content is another Job and
runs, and one with the same content never runs again. A new image alone is no reason to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pulumi
from pulumi_kubernetes.batch.v1 import Job

from stacks.kubernetes.pods import PodArgs, labels, pod_template
from stacks.platform import StepSpec

UNDO = "learning-platform/undo"
REFUSAL = "learning-platform/refusal"

DEADLINE_SECONDS = 7 * 86_400
"""A backfill of a very large table takes days; what hangs for longer is broken."""

RETRIES = 3

_WRONG_USAGE = 2
_FAILURES = {
    "rules": [
        # A node that goes is no failure of the step's; what is misused will not be right later.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"operator": "In", "values": [_WRONG_USAGE]},
        },
    ]
}


@dataclass(frozen=True)
class StepJobArgs:
    """`pod` is the step's, its arguments those of `spec`; `files` are what those name.

    `database` tells one database from another: on a new one every step runs again.
    """

    namespace: str
    step: str
    spec: StepSpec
    pod: PodArgs
    files: Sequence[Path] = ()
    database: str = ""


class StepJob(pulumi.ComponentResource):
    """A step; created when its Job has succeeded. `undo` runs before it is deleted."""

    result: pulumi.Output[dict[str, Any]]

    def __init__(
        self,
        name: str,
        args: StepJobArgs,
        undo: pulumi.ResourceHook | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            "learning-platform:kubernetes:Step",
            name,
            # For the eyes of a reviewer; lines, for of a long text a preview shows but three.
            {"command": list(args.spec.command), "sql": args.spec.sql.splitlines()},
            opts,
        )
        manifest = job(args)
        hooks = None
        if undo is not None and (args.spec.undo or args.spec.refusal):
            hooks = pulumi.ResourceHookBinding(before_delete=[undo])
        declared = Job(
            # Other content is another resource: one that is replaced would be given what is ignored
            # from the one before, its image with it.
            f"{name}-{manifest['metadata']['name'].rpartition('-')[2]}",
            metadata=manifest["metadata"],
            spec=manifest["spec"],
            opts=pulumi.ResourceOptions(
                parent=self,
                # Another image, another size: no reason to run it again, and a Job cannot change.
                # (One that failed for its image has to be deleted by hand: docs/operations.md.)
                ignore_changes=["spec"],
                hooks=hooks,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{DEADLINE_SECONDS // 3600}h"),
            ),
        )
        self.result = declared.status.apply(
            lambda status: {
                "job": manifest["metadata"]["name"],
                "message": f"completed {_completed(status)}".strip(),
            }
        )
        self.register_outputs({"result": self.result})


def _completed(status: Any) -> str:
    return (getattr(status, "completion_time", None) if status else None) or ""


def content_digest(spec: StepSpec, files: Sequence[Path], database: str) -> str:
    """Return ten hex digits that stand for what a step does, and to which database."""
    digest = hashlib.sha256(json.dumps([list(spec.command), spec.sql, database]).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def job(args: StepJobArgs) -> dict[str, Any]:
    """Return the Job of a step."""
    # A Job that failed is made again by the next update, which goes on where it stopped.
    annotations = {"pulumi.com/replaceUnready": "true"}
    if args.spec.undo:
        annotations[UNDO] = json.dumps(list(args.spec.undo))
    if args.spec.refusal:
        annotations[REFUSAL] = args.spec.refusal
    name = f"{args.step}-{content_digest(args.spec, args.files, args.database)}"
    return _job(name, args, args.spec.command, annotations)


def undo_job(args: StepJobArgs, command: Sequence[str]) -> dict[str, Any]:
    """Return the Job that takes a step back; it goes by itself a day after its end."""
    digest = hashlib.sha256(json.dumps(list(command)).encode()).hexdigest()[:10]
    manifest = _job(f"{args.step}-undo-{digest}", args, command, {})
    manifest["spec"]["ttlSecondsAfterFinished"] = 86_400
    return manifest


def _job(
    name: str, args: StepJobArgs, command: Sequence[str], annotations: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": args.namespace,
            "labels": labels(args.step),
            **({"annotations": dict(annotations)} if annotations else {}),
        },
        "spec": {
            # A step goes on where it stopped: after a failover, or after its pod was killed.
            "backoffLimit": RETRIES,
            "podFailurePolicy": _FAILURES,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "template": pod_template(replace(args.pod, arguments=tuple(command))),
        },
    }
