"""The rules that every resource of every stack keeps; plain functions over its inputs."""

from __future__ import annotations

from stacks.policies import aws, cluster, iam, kubernetes, secrets
from stacks.policies.rule import UNKNOWN, Resource, Rule, Surroundings

__all__ = ["RULES", "UNKNOWN", "Resource", "Rule", "Surroundings", "violations"]

RULES: tuple[Rule, ...] = (
    *aws.RULES,
    *iam.RULES,
    *kubernetes.RULES,
    *cluster.RULES,
    *secrets.RULES,
)


def violations(resource: Resource, surroundings: Surroundings) -> list[str]:
    """Return everything that is wrong with a resource, in the order of the rules."""
    return [problem for rule in RULES for problem in rule.violations(resource, surroundings)]
