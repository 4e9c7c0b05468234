"""Taking a step back when it is taken away: a hook before its Job is deleted.

The engine calls the hook for every deletion of a step's Job. While the step is wanted, the Job only
makes room for another one, or the whole stack goes, data and all: nothing is taken back.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import pulumi

from stacks.kubernetes.step import REFUSAL, UNDO

RunUndo = Callable[[str, Sequence[str]], Awaitable[None]]
"""Runs the command that takes the step of that name back, to its end."""


class UndoError(Exception):
    """A step cannot be taken back; the message says why."""


def undo_hook(step: str, wanted: Callable[[str], bool], run: RunUndo) -> pulumi.ResourceHook:
    """Register the hook of a step.

    A preview tells a refusal already.
    """

    async def before_delete(args: pulumi.ResourceHookArgs) -> None:
        if wanted(step):
            return
        annotations = _annotations(args.old_inputs or {})
        if refusal := annotations.get(REFUSAL):
            raise UndoError(refusal)
        command: list[str] = json.loads(annotations.get(UNDO, "[]"))
        if command and not pulumi.runtime.is_dry_run():
            await run(step, command)

    return pulumi.ResourceHook(
        f"undo-{step}", before_delete, pulumi.ResourceHookOptions(on_dry_run=True)
    )


def _annotations(inputs: Mapping[str, Any]) -> Mapping[str, str]:
    metadata = cast("Mapping[str, Any]", inputs.get("metadata") or {})
    return cast("Mapping[str, str]", metadata.get("annotations") or {})
