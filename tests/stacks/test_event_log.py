"""Seconds a resource, from the engine's events, which pass through a pipe and are kept nowhere."""

from __future__ import annotations

import json

from stacks.event_log import event_log, resource_seconds


def event(kind: str, name: str, op: str, timestamp: int) -> str:
    type_ = "pulumi:pulumi:Stack" if name == "stack" else "a:b:C"
    urn = f"urn:pulumi:local::learning-platform::{type_}::{name}"
    metadata = {"urn": urn, "op": op, "type": type_}
    return json.dumps({"timestamp": timestamp, kind: {"metadata": metadata}})


EVENTS = [
    event("resourcePreEvent", "stack", "create", 9),
    event("resourcePreEvent", "database", "create", 10),
    event("resourcePreEvent", "queue", "same", 10),
    event("resOutputsEvent", "queue", "same", 19),
    event("resOutputsEvent", "database", "create", 14),
    event("resourcePreEvent", "unfinished", "update", 14),
    event("resOutputsEvent", "stack", "create", 15),
    json.dumps({"timestamp": 15, "summaryEvent": {}}),
]


def test_what_was_worked_on_counts_from_its_first_event_to_its_last() -> None:
    assert resource_seconds(EVENTS) == {"database": 4}


def test_events_written_to_the_pipe_are_read_to_the_last_line() -> None:
    with event_log() as log, log.path.open("w") as engine:
        engine.writelines(f"{line}\n" for line in EVENTS * 2_000)
    assert log.seconds == {"database": 4}
    assert not log.path.exists()


def test_an_engine_that_never_writes_is_not_waited_for() -> None:
    with event_log() as log:
        pass
    assert log.seconds == {}
