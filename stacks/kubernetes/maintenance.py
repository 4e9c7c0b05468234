"""What runs by the clock: a CronJob for each periodic command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pulumi
from pulumi_kubernetes.batch.v1 import CronJob

from stacks.kubernetes.pods import PodArgs, labels, pod_template

_LATE_SECONDS = 3600
_DEADLINE_SECONDS = 3600


@dataclass(frozen=True)
class PeriodicArgs:
    """`schedule` is a cron pattern, in UTC; `pod.name` is the name of it all."""

    namespace: str
    schedule: str
    pod: PodArgs


def periodic(name: str, args: PeriodicArgs, opts: pulumi.ResourceOptions) -> CronJob:
    """Declare a command that runs by the clock."""
    manifest = cron_job(args)
    return CronJob(name, metadata=manifest["metadata"], spec=manifest["spec"], opts=opts)


def cron_job(args: PeriodicArgs) -> dict[str, Any]:
    """Return the CronJob: one run at a time, a late one is made up for within the hour."""
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": args.pod.name,
            "namespace": args.namespace,
            "labels": labels(args.pod.name),
        },
        "spec": {
            "schedule": args.schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _LATE_SECONDS,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": {"labels": labels(args.pod.name)},
                "spec": {
                    "backoffLimit": 2,
                    "activeDeadlineSeconds": _DEADLINE_SECONDS,
                    "template": pod_template(replace(args.pod, restart_policy="Never")),
                },
            },
        },
    }
