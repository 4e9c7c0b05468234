"""The rules of stacks/policies as a CrossGuard pack: `pulumi preview --policy-pack policy`.

The program keeps the same rules by itself (stacks/policy.py); the pack is for an organisation that
keeps them for every stack, whoever wrote it. Its environment: `python -m venv policy/.venv` and
`policy/.venv/bin/pip install -r policy/requirements.txt`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pulumi_policy import (
    EnforcementLevel,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stacks.policies import RULES, UNKNOWN, Resource, Rule, Surroundings

SETTINGS = PolicyConfigSchema(
    properties={
        "durable": {
            "type": "boolean",
            "default": False,
            "description": "Whether what holds data must be protected, as in prod",
        },
        "replicated": {
            "type": "boolean",
            "default": False,
            "description": "Whether the database has a replica, as in prod",
        },
    }
)


def known(properties: Any) -> Any:
    """Return properties as plain data; the pack's own views raise where a value is not known."""
    if isinstance(properties, Mapping):
        mapping = cast("Mapping[str, Any]", properties)
        return {key: _at(mapping, key) for key in mapping}
    if isinstance(properties, (str, bytes)) or not hasattr(properties, "__len__"):
        return properties
    return [_at(properties, index) for index in range(len(properties))]


def _at(properties: Any, key: Any) -> Any:
    try:
        return known(properties[key])
    except UnknownValueError:
        return UNKNOWN


def policy(rule: Rule) -> ResourceValidationPolicy:
    """Return one rule as a policy of the pack."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if args.resource_type not in rule.types:
            return
        resource = Resource(
            args.resource_type, args.name, known(args.props), bool(args.opts.protect)
        )
        config = args.get_config()
        surroundings = Surroundings(
            durable=bool(config.get("durable", False)),
            replicated=bool(config.get("replicated", False)),
        )
        for problem in rule.violations(resource, surroundings):
            report(problem)

    return ResourceValidationPolicy(
        name=rule.name,
        description=rule.demands,
        validate=validate,
        config_schema=SETTINGS,
    )


PolicyPack(
    name="learning-platform",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[policy(rule) for rule in RULES],
)
