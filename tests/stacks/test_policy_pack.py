"""The CrossGuard pack: its own process, asked as the engine asks it, says what the program says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from stacks.policies import RULES, UNKNOWN
from tests.stacks.test_policy import BREAKS, KEEPS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".local" / "policy-pack"
_UNKNOWN_ON_THE_WIRE = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment that has the pack's requirements, made once."""
    made = ENVIRONMENT / "bin" / "python"
    marker = ENVIRONMENT / "requirements.txt"
    wanted = ROOT / "policy" / "requirements.txt"
    if not marker.exists() or marker.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        subprocess.run(
            [str(made), "-m", "pip", "install", "--quiet", "--requirement", str(wanted)],
            check=True,
        )
        marker.write_text(wanted.read_text())
    return made


@pytest.fixture(scope="module")
def pack(python: Path) -> Iterator[Any]:
    """The pack as it runs, configured for prod."""
    process = subprocess.Popen(
        [str(python), "-u", str(ROOT / "policy" / "__main__.py"), "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            analyzer = analyzer_pb2_grpc.AnalyzerStub(channel)
            configured = analyzer_pb2.PolicyConfig(
                enforcementLevel=analyzer_pb2.MANDATORY, properties=_struct({"durable": True})
            )
            analyzer.Configure(
                analyzer_pb2.ConfigureAnalyzerRequest(
                    policyConfig={rule.name: configured for rule in RULES}
                )
            )
            yield analyzer
    finally:
        process.kill()
        process.wait()


def _struct(values: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def _on_the_wire(value: Any) -> Any:
    if value is UNKNOWN:
        return _UNKNOWN_ON_THE_WIRE
    if isinstance(value, dict):
        return {key: _on_the_wire(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_on_the_wire(inner) for inner in value]
    return value


def broken(pack: Any, type_: str, inputs: dict[str, Any]) -> set[str]:
    """Return the rules that the pack finds broken, all of them mandatory."""
    answer = pack.Analyze(
        analyzer_pb2.AnalyzeRequest(
            type=type_,
            urn=f"urn:pulumi:prod::learning-platform::{type_}::it",
            name="it",
            properties=_struct(_on_the_wire(inputs)),
            options=analyzer_pb2.AnalyzerResourceOptions(protect=True),
        )
    )
    assert {found.enforcementLevel for found in answer.diagnostics} <= {analyzer_pb2.MANDATORY}
    return {found.policyName for found in answer.diagnostics}


def test_the_pack_has_the_rules_of_the_program(pack: Any) -> None:
    information = pack.GetAnalyzerInfo(empty_pb2.Empty())
    assert {policy.name for policy in information.policies} == {rule.name for rule in RULES}


def test_the_pack_passes_and_forbids_what_the_program_does(pack: Any) -> None:
    for type_, inputs in KEEPS:
        assert broken(pack, type_, inputs) == set(), type_
    for rule, type_, inputs in BREAKS:
        assert broken(pack, type_, inputs) == {rule}, (rule, type_)
