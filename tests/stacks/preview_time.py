"""How long a preview of the whole program takes, against one of a program without resources."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.stacks import whole
from tests.stacks.engine import Engine
from tests.stacks.stand_ins import running_stand_ins

IMPORTS = """
import pulumi
import pulumi_aws.cloudwatch
import pulumi_aws.ec2
import pulumi_aws.ecr
import pulumi_aws.eks
import pulumi_aws.elasticache
import pulumi_aws.iam
import pulumi_aws.kms
import pulumi_aws.rds
import pulumi_kubernetes.apps.v1
import pulumi_kubernetes.autoscaling.v1
import pulumi_kubernetes.batch.v1
import pulumi_kubernetes.core.v1
import pulumi_kubernetes.helm.v3
import pulumi_kubernetes.meta.v1
import pulumi_kubernetes.networking.v1
import pulumi_kubernetes.policy.v1
import pulumi_kubernetes.rbac.v1
import pulumi_random
import pulumiverse_grafana
"""
"""What the program imports of the SDKs; their packages load a module only when it is used."""

BARE = """
import pulumi
import pulumi_aws
import pulumi_kubernetes
import pulumi_random
import pulumiverse_grafana
"""
"""The packages alone."""


@dataclass(frozen=True)
class Comparison:
    """Seconds of each run, interleaved: of the program, and of empty ones."""

    whole: tuple[float, ...]
    imports: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times as long the program takes as its imports."""
        return median(self.whole) / median(self.imports)


@contextmanager
def _contenders(directory: Path, stack: str) -> Iterator[list[Engine]]:
    with running_stand_ins(directory, None) as stand_ins:
        engines = [stand_ins.engine(directory / name, stack) for name in ("whole", "full", "bare")]
        whole.lay_out(engines[0])
        engines[1].lay_out(IMPORTS, {})
        engines[2].lay_out(BARE, {})
        yield engines


def compare(directory: Path, stack: str, runs: int) -> Comparison:
    """Preview each so many times, in turn, after one run that is not counted."""
    seconds: list[list[float]] = [[], [], []]
    with _contenders(directory, stack) as engines:
        for run in range(runs + 1):
            for engine, taken in zip(engines, seconds, strict=True):
                begun = time.perf_counter()
                engine.pulumi("preview", "--stack", stack)
                if run:
                    taken.append(time.perf_counter() - begun)
    return Comparison(tuple(seconds[0]), tuple(seconds[1]), tuple(seconds[2]))
