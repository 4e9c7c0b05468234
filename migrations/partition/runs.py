"""The phases by name, their undoing, and runs of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from migrations.partition import bookkeeping
from migrations.partition.backfill import backfill, undo_backfill
from migrations.partition.cutover import cutover, rollback
from migrations.partition.engine import Engine, Outcome
from migrations.partition.errors import PlanRefused, Refused
from migrations.partition.maintain import maintain
from migrations.partition.phases import Phase
from migrations.partition.plan import describe, make_plan
from migrations.partition.prepare import prepare, undo_prepare
from migrations.partition.retire import retire
from migrations.partition.status import status
from migrations.partition.sync import sync, undo_sync
from migrations.partition.verify import undo_verify, verify

__all__ = ["PHASES", "UNDOS", "maintain", "plan", "run", "status"]


def _undo_retire(engine: Engine) -> Outcome:
    record = bookkeeping.find(engine.connection, engine.spec)
    if record is None or record.phase is not Phase.RETIRE:
        return Outcome("found", f"{engine.spec.table} is not retired: nothing to undo")
    raise Refused(f"retire of {engine.spec.table} cannot be undone: the old table was dropped")


PHASES: Mapping[Phase, Callable[[Engine], Outcome]] = {
    Phase.PREPARE: prepare,
    Phase.SYNC: sync,
    Phase.BACKFILL: backfill,
    Phase.VERIFY: verify,
    Phase.CUTOVER: cutover,
    Phase.RETIRE: retire,
}

UNDOS: Mapping[Phase, Callable[[Engine], Outcome]] = {
    Phase.PREPARE: undo_prepare,
    Phase.SYNC: undo_sync,
    Phase.BACKFILL: undo_backfill,
    Phase.VERIFY: undo_verify,
    Phase.CUTOVER: rollback,
    Phase.RETIRE: _undo_retire,
}


def plan(engine: Engine) -> Outcome:
    """Return the plan as the message. Raises PlanRefused with all reasons not to."""
    record = bookkeeping.find(engine.connection, engine.spec)
    if record is not None:
        return Outcome("found", f"{engine.spec.table} is under way; {record.phase} is done: status")
    found = make_plan(engine)
    if found.reasons:
        raise PlanRefused(engine.spec.table, found.reasons)
    return Outcome(
        "done",
        describe(engine, found),
        rows=found.table.rows_estimated,
        months=len(found.months),
    )


def run(engine: Engine, until: Phase) -> Outcome:
    """Do the phases through `until`; return the last result, with what others measured."""
    merged: dict[str, object] = {}
    outcome = Outcome("found", "nothing to do")
    for phase in list(Phase)[: until.position + 1]:
        outcome = PHASES[phase](engine)
        engine.reporter.say(f"{phase}: {outcome.message}")
        merged |= outcome.as_json()
    return Outcome(**merged)  # pyright: ignore[reportArgumentType] -- as_json of Outcomes
